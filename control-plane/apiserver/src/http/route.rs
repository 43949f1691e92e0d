//! From a request about a resource to the registry, and back to an answer.

use super::accept::{self, Accept, Form, Offer, Wants};
use super::answer::{self, Shape};
use super::chain::Peer;
use super::{body, options, watch};
use crate::hooks::{ActionRequest, Body, Operation};
use crate::registry::{Call, Configuration, Deleted, Moment, ScaleChange, Sent, Written, schema_of};
use crate::request::{RequestInfo, UserInfo, param};
use crate::server::ApiServer;
use crate::table::IncludeObject;
use http::{HeaderMap, Method, Request, Response};
use serde_json::{Value, json};
use skep_api::patch::PatchType;
use skep_api::schema::FieldValidation;
use skep_api::{GroupVersionKind, Object, Resource, Status};
use std::sync::Arc;

/// How often an object that comes and goes is applied to.
const APPLY_ATTEMPTS: u32 = 8;

/// What a request needs all along its way.
struct Way<'a> {
    row: &'a Arc<Resource>,
    user: &'a UserInfo,
    info: &'a RequestInfo,
    query: &'a str,
    accept: Accept,
    include: IncludeObject,
}

impl Way<'_> {
    fn shape(&self) -> Shape<'_> {
        Shape { row: self.row, include: self.include }
    }

    fn call<'a>(&'a self, dry_run: bool, manager: &'a str) -> Call<'a> {
        Call::of(self.user, self.info, self.row, dry_run, manager)
    }

    fn object(&self, code: u16, object: &Arc<Object>, warnings: &[String]) -> Result<Response<Body>, Status> {
        let mut response = answer::object(code, &self.accept, self.shape(), object)?;
        answer::warn(&mut response, warnings);
        Ok(response)
    }
}

/// What became of a post where an action may be.
pub(crate) enum Acted {
    /// The action answered this.
    Answered(Value),
    /// There is none: the tree as it came.
    Nothing(Value),
}

/// How a request about a resource is answered.
fn negotiate(row: &Resource, info: &RequestInfo, wants: &Wants) -> Result<Accept, Status> {
    let kind = row.subresource(&info.subresource).map_or(&row.gvk, |below| &below.kind);
    let kept = row.verbs.contains(&"get");
    let offer = Offer {
        protobuf: skep_api::protobuf::is_known(&kind.api_version(), &kind.kind),
        partial: kept,
        table: kept,
        watched: matches!(info.verb.as_str(), "list" | "watch"),
    };
    let accept = wants.choose(offer)?;
    let refuse = |form: &str, why: &str| {
        let package = kind.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
        let list = if info.verb == "list" { "List" } else { "" };
        let why = format!(
            "you requested {form}, but the requested object is {why} (*{package}.{}{list})",
            kind.kind
        );
        Err(Status::new(skep_api::Reason::NotAcceptable, why))
    };
    match (accept.form, info.verb.as_str()) {
        (Form::Partial, "list") => refuse("PartialObjectMetadata", "a list"),
        (Form::PartialList, "get" | "create" | "update" | "patch") => {
            refuse("PartialObjectMetadataList", "not a list")
        }
        _ => Ok(accept),
    }
}

/// How much of their objects the rows of a table carry.
fn included(query: &str) -> Result<IncludeObject, Status> {
    let text = param(query, "includeObject").unwrap_or_default();
    IncludeObject::parse(&text).ok_or_else(|| {
        Status::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {text:?}: must be 'Metadata', \
             'Object', 'None', or empty"
        ))
    })
}

/// The schema name of a kind that is not a row's own: the body of a subresource.
fn schema_name(gvk: &GroupVersionKind) -> String {
    let package = match gvk.group.split('.').next() {
        None | Some("") => "core",
        Some(word) => word,
    };
    format!("io.k8s.api.{package}.{}.{}", gvk.version, gvk.kind)
}

impl ApiServer {
    /// The row of a request, if the path and verb are served.
    pub(crate) fn row(&self, info: &RequestInfo) -> Result<Arc<Resource>, Status> {
        let row = self.registry.caches.row(&info.group, &info.version, &info.resource);
        let row = row.ok_or_else(|| {
            let elsewhere = crate::apiservices::elsewhere(&self.registry.caches, &info.group, &info.version);
            elsewhere.unwrap_or_else(Status::unknown_path)
        })?;
        let named_by_namespace = info.namespace == info.name && !row.namespaced();
        if !row.namespaced() && !info.namespace.is_empty() && !named_by_namespace {
            return Err(Status::unknown_path());
        }
        let verbs = if info.subresource.is_empty() {
            row.verbs
        } else {
            let below = row.subresource(&info.subresource);
            below
                .ok_or_else(|| match row.custom {
                    None => Status::unknown_path(),
                    Some(_) => Status::not_found(&row.group_resource(), &info.name),
                })?
                .verbs
        };
        let refused = Status::method_not_allowed;
        if !verbs.contains(&info.verb.as_str()) {
            return Err(refused());
        }
        let whole = matches!(info.verb.as_str(), "list" | "watch");
        if row.namespaced() && info.namespace.is_empty() && !whole {
            return Err(refused());
        }
        if info.verb == "create" && info.subresource.is_empty() && !info.name.is_empty() {
            return Err(refused());
        }
        if matches!(info.verb.as_str(), "update" | "patch" | "delete") && info.name.is_empty() {
            return Err(refused());
        }
        Ok(row)
    }

    /// Answers a request about a resource, with the warnings that its version calls for.
    pub(super) async fn route(
        self: &Arc<Self>,
        request: Request<Body>,
        user: &UserInfo,
        info: &RequestInfo,
        wants: &Wants,
        query: &str,
    ) -> Result<Response<Body>, Status> {
        let row = self.row(info)?;
        let mut response = match self.routed(&row, request, user, info, wants, query).await {
            // Whoever is refused is warned all the same.
            Err(status) if !row.warnings.is_empty() => answer::status(&wants.for_status(), &status),
            answered => answered?,
        };
        answer::warn_first(&mut response, &row.warnings);
        Ok(response)
    }

    async fn routed(
        self: &Arc<Self>,
        row: &Arc<Resource>,
        request: Request<Body>,
        user: &UserInfo,
        info: &RequestInfo,
        wants: &Wants,
        query: &str,
    ) -> Result<Response<Body>, Status> {
        if matches!(*request.method(), Method::HEAD | Method::OPTIONS) {
            return Err(Status::method_not_allowed());
        }
        let accept = negotiate(row, info, wants)?;
        let include = if accept.form == Form::Table { included(query)? } else { IncludeObject::default() };
        let way = Way { row, user, info, query, accept, include };
        let (parts, sent) = request.into_parts();
        match info.verb.as_str() {
            "get" => self.read(&way).await,
            "list" => {
                let listing = self.registry.list(row, &options::list(row, info, query)?).await?;
                answer::list(&accept, way.shape(), listing).await
            }
            "watch" => {
                let name = accept.media.stream_name().ok_or_else(accept::no_stream)?;
                let query = options::watch(row, info, query)?;
                let running = self.registry.watch(row, query).await?;
                let stop = self.stopping.subscribe();
                let peer = parts.extensions.get::<Arc<Peer>>().cloned().unwrap_or_default();
                let body = watch::body(running, (accept, include), row.clone(), stop, peer);
                let mut response = Response::new(body);
                let headers = response.headers_mut();
                headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(name));
                Ok(response)
            }
            "create" => self.post(&way, &parts.headers, sent).await,
            "update" => self.put(&way, &parts.headers, sent).await,
            "patch" => self.apply_patch(&way, &parts.headers, sent).await,
            "delete" => {
                let options = self.delete_options(&way, &parts.headers, sent).await?;
                let mut warnings = Vec::new();
                let call = way.call(options.dry_run, "");
                let deleted = self.registry.delete(&call, &options, &mut warnings).await?;
                let mut response = match &deleted {
                    Deleted::Gone(object) if !row.strategy.returns_deleted() => {
                        answer::value(200, &accept, &success(row, object))
                    }
                    other => way.object(200, other.object(), &[])?,
                };
                answer::warn(&mut response, &warnings);
                Ok(response)
            }
            "deletecollection" => {
                let options = self.delete_options(&way, &parts.headers, sent).await?;
                let selected = options::list(row, info, query)?;
                let mut warnings = Vec::new();
                let call = way.call(options.dry_run, "");
                let listing =
                    self.registry.delete_collection(&call, &selected, &options, &mut warnings).await?;
                let mut response = answer::list(&accept, way.shape(), listing).await?;
                answer::warn(&mut response, &warnings);
                Ok(response)
            }
            _ => Err(Status::method_not_supported(&row.group_resource(), &info.verb)),
        }
    }

    /// The kind of what is sent to a place where that is not the object's own: to some subresources.
    fn other_kind<'a>(call: &Call<'a>) -> Option<&'a GroupVersionKind> {
        let below = call.row.subresource(call.subresource)?;
        (below.kind != call.row.gvk).then_some(&below.kind)
    }

    /// Checks and cleans what is sent to a place.
    fn check_sent(
        call: &Call<'_>,
        tree: &mut Value,
        duplicates: &[String],
        validation: FieldValidation,
    ) -> Result<Vec<String>, Status> {
        match Self::other_kind(call) {
            None => call.row.check(tree, duplicates, validation),
            Some(gvk) => {
                let schema = schema_of(&schema_name(gvk))?;
                skep_api::schema::check(schema, gvk, tree, duplicates, validation)
            }
        }
    }

    /// The kind of the view that a subresource shows, where it is not the object itself.
    fn view<'a>(&self, call: &Call<'a>, verb: &str) -> Result<Option<&'a GroupVersionKind>, Status> {
        match call.row.subresource(call.subresource) {
            Some(below) if below.kind == call.row.gvk => Ok(None),
            Some(below) if below.name == "scale" => Ok(Some(&below.kind)),
            Some(_) => Err(Status::method_not_supported(&call.row.group_resource(), verb)),
            None => Ok(None),
        }
    }

    /// Reads an object or a view of it.
    pub(crate) async fn read_object(&self, call: &Call<'_>, moment: Moment) -> Result<Arc<Object>, Status> {
        match self.view(call, "get")? {
            Some(_) => self.registry.scale(call).await,
            None => self.registry.get(call.row, call.namespace, call.name, moment).await,
        }
    }

    /// Checks a tree that is sent to a place. Answers warnings beside.
    pub(crate) fn check_tree(
        &self,
        call: &Call<'_>,
        mut tree: Value,
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let warnings = Self::check_sent(call, &mut tree, &[], validation)?;
        Ok((tree, warnings))
    }

    /// Answers a post by the action of its place, or hands its tree back where there is none; `tree` has been checked.
    pub(crate) async fn act(
        &self,
        call: &Call<'_>,
        info: &RequestInfo,
        mut tree: Value,
    ) -> Result<Acted, Status> {
        let Some(action) = self.registry.handlers.for_action(info) else { return Ok(Acted::Nothing(tree)) };
        match Self::other_kind(call) {
            None => call.row.apply_defaults(&mut tree)?,
            Some(gvk) => skep_api::schema::apply_defaults(schema_of(&schema_name(gvk))?, &mut tree),
        }
        let write = call.write(Operation::Create, call.name);
        self.registry.admission.admit(&write, &mut tree, None).await?;
        self.registry.admission.validate(&write, Some(&tree), None, &mut Vec::new()).await?;
        let request = ActionRequest {
            user: call.user,
            info,
            resource: call.row,
            body: tree,
            dry_run: call.dry_run,
            manager: call.manager,
            registry: &self.registry,
        };
        action.perform(request).await.map(Acted::Answered)
    }

    /// Creates an object from a checked tree.
    pub(crate) async fn create_object(
        &self,
        call: &Call<'_>,
        tree: Value,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        if !call.subresource.is_empty() || !call.row.verbs.contains(&"get") {
            return Err(Status::method_not_supported(&call.row.group_resource(), "create"));
        }
        self.registry.create(call, tree, warnings).await
    }

    /// Replaces an object, or a view of it, by a checked tree.
    pub(crate) async fn update_object(
        &self,
        call: &Call<'_>,
        tree: Value,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        match self.view(call, "update")? {
            Some(gvk) => {
                let how = ScaleChange::Replace(tree);
                let object = self.registry.change_scale(call, gvk, &how, warnings).await?;
                Ok(Written { object, created: false })
            }
            None => self.registry.update(call, tree, warnings).await,
        }
    }

    /// Patches an object, or a view of it.
    pub(crate) async fn patch_object(
        &self,
        call: &Call<'_>,
        kind: PatchType,
        patch: Sent<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        match self.view(call, "patch")? {
            Some(gvk) => {
                let how = ScaleChange::Patch(kind, patch);
                let object = self.registry.change_scale(call, gvk, &how, warnings).await?;
                Ok(Written { object, created: false })
            }
            None => self.registry.patch(call, kind, patch, warnings).await,
        }
    }

    /// Applies a configuration; where there is no object it is made, if the user may.
    pub(crate) async fn apply_object(
        &self,
        call: &Call<'_>,
        info: &RequestInfo,
        config: Configuration<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        if let Some(gvk) = self.view(call, "patch")? {
            let object = self.registry.apply_scale(call, gvk, config, warnings).await?;
            return Ok(Written { object, created: false });
        }
        let mut last = None;
        for _ in 0..APPLY_ATTEMPTS {
            match self.registry.apply(call, config, warnings).await {
                Err(status) if status.is_not_found() && call.subresource.is_empty() => {}
                done => return done,
            }
            let create = RequestInfo { verb: "create".into(), ..info.clone() };
            self.permit(call.user, &create).await?;
            match self.registry.apply_new(call, config, warnings).await {
                Err(status) if status.is_already_exists() => last = Some(status),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| Status::stale(&call.row.group_resource(), call.name)))
    }

    /// Reads and checks the body of a create or update.
    async fn tree(
        &self,
        call: &Call<'_>,
        headers: &HeaderMap,
        sent: Body,
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let format = body::format(headers)?;
        let bytes = body::read(headers, sent, self.limits.body).await?;
        let gvk = Self::other_kind(call).unwrap_or(&call.row.gvk);
        body::object(gvk, &bytes, format, |tree, twice| Self::check_sent(call, tree, twice, validation))
    }

    async fn read(&self, way: &Way<'_>) -> Result<Response<Body>, Status> {
        let object = self.read_object(&way.call(false, ""), options::moment(way.query)?).await?;
        way.object(200, &object, &[])
    }

    async fn post(&self, way: &Way<'_>, headers: &HeaderMap, sent: Body) -> Result<Response<Body>, Status> {
        let manager = options::manager(way.query, headers, "CreateOptions")?;
        let call = way.call(options::dry_run(way.query, "CreateOptions")?, &manager);
        let validation = options::field_validation(way.query, "CreateOptions")?;
        let (tree, mut warnings) = self.tree(&call, headers, sent, validation).await?;
        match self.act(&call, way.info, tree).await? {
            Acted::Answered(answered) => {
                let mut response = answer::value(201, &way.accept.plain(), &answered);
                answer::warn(&mut response, &warnings);
                Ok(response)
            }
            Acted::Nothing(tree) => {
                let written = self.create_object(&call, tree, &mut warnings).await?;
                way.object(201, &written.object, &warnings)
            }
        }
    }

    async fn put(&self, way: &Way<'_>, headers: &HeaderMap, sent: Body) -> Result<Response<Body>, Status> {
        let manager = options::manager(way.query, headers, "UpdateOptions")?;
        let call = way.call(options::dry_run(way.query, "UpdateOptions")?, &manager);
        let validation = options::field_validation(way.query, "UpdateOptions")?;
        let (tree, mut warnings) = self.tree(&call, headers, sent, validation).await?;
        let written = self.update_object(&call, tree, &mut warnings).await?;
        way.object(if written.created { 201 } else { 200 }, &written.object, &warnings)
    }

    async fn apply_patch(
        &self,
        way: &Way<'_>,
        headers: &HeaderMap,
        sent: Body,
    ) -> Result<Response<Body>, Status> {
        let media_type = body::media_type(headers);
        let applies = media_type == PatchType::APPLY;
        let force = options::force(way.query, applies)?;
        let manager = options::manager(way.query, headers, "PatchOptions")?;
        let call = way.call(options::dry_run(way.query, "PatchOptions")?, &manager);
        let validation = options::field_validation(way.query, "PatchOptions")?;
        if applies {
            let bytes = body::read(headers, sent, self.limits.body).await?;
            let decoded = skep_api::schema::decode(&bytes, skep_api::schema::Format::Yaml)
                .map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
            let config =
                Configuration { tree: &decoded.value, duplicates: &decoded.duplicates, validation, force };
            let mut warnings = Vec::new();
            let written = self.apply_object(&call, way.info, config, &mut warnings).await?;
            return way.object(if written.created { 201 } else { 200 }, &written.object, &warnings);
        }
        let kind = PatchType::parse(&media_type)
            .filter(|_| way.row.patches().contains(&media_type.as_str()))
            .ok_or_else(|| Status::unsupported_media_type(way.row.patches()))?;
        let bytes = body::read(headers, sent, self.limits.body).await?;
        let decoded = skep_api::schema::decode(&bytes, skep_api::schema::Format::Json)
            .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
        let mut warnings = Vec::new();
        let mut duplicates = decoded.duplicates;
        if kind == PatchType::Json {
            duplicates.iter_mut().for_each(|text| text.insert_str(0, "json patch "));
        }
        let patch = Sent { tree: &decoded.value, duplicates: &duplicates, validation };
        let written = self.patch_object(&call, kind, patch, &mut warnings).await?;
        way.object(200, &written.object, &warnings)
    }

    async fn delete_options(
        &self,
        way: &Way<'_>,
        headers: &HeaderMap,
        sent: Body,
    ) -> Result<skep_client::DeleteOptions, Status> {
        let bytes = body::read(headers, sent, self.limits.body).await?;
        if bytes.is_empty() {
            return options::delete(way.query, None);
        }
        let gvk = GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions");
        let decoded =
            skep_api::schema::decode(&bytes, body::format(headers)?).map_err(|e| e.to_status(&gvk))?;
        options::delete(way.query, Some(&decoded.value))
    }
}

/// What a deletion answers where the object is gone.
fn success(row: &Resource, object: &Object) -> Value {
    let mut details = json!({
        "name": object.meta().name, "kind": row.plural, "uid": object.meta().uid,
    });
    if !row.gvk.group.is_empty() {
        details["group"] = row.gvk.group.as_ref().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
