//! HorizontalPodAutoscalers: as many replicas as metrics ask for.

mod calculate;
mod limits;
mod metrics;
mod model;
mod plan;
mod status;

use crate::runtime::{Key, Outcome, Queue, feed, work};
use crate::views::reference;
use crate::{Context, ManagedResource};
use jiff::Timestamp;
use limits::History;
use metrics::Metrics;
use model::{Pod, Scale, Spec};
use parking_lot::Mutex;
use plan::{First, Input, decide, first};
use serde::Deserialize;
use serde_json::Value;
use skep_api::{GroupVersion, LabelSelector, Object, Status};
use skep_client::{Client, Collection, Informer, Recorder, Target, WriteOptions, typed};
use status::Status as Said;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often an autoscaler is looked at (`horizontal-pod-autoscaler-sync-period`).
const PERIOD: Duration = Duration::from_secs(15);
/// A scale that somebody else changes meanwhile is written again so often.
const TRIES: usize = 5;

struct Controller {
    client: Arc<dyn Client>,
    events: Recorder,
    autoscalers: Informer,
    pods: Informer,
    resources: watch::Receiver<Vec<ManagedResource>>,
    histories: Mutex<HashMap<Key, History>>,
    /// Which pods each autoscaler scales.
    selectors: Mutex<BTreeMap<Key, LabelSelector>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Autoscaler {
    spec: Spec,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let client = context.client("horizontal-pod-autoscaler");
    let autoscalers = Collection::of("autoscaling", "v2", "horizontalpodautoscalers");
    let controller = Arc::new(Controller {
        events: Recorder::start(client.clone(), "horizontal-pod-autoscaler", ""),
        client,
        autoscalers: context.informers.of(&autoscalers),
        pods: context.informers.pods.clone(),
        resources: context.config.resources.clone(),
        histories: Mutex::default(),
        selectors: Mutex::default(),
    });
    let queue = Queue::default();
    let later = queue.clone();
    // Every look is a period after the last change or look, the first one too.
    feed(&controller.autoscalers, &queue, move |change| {
        if let Some(object) = change.latest() {
            later.add_after(Key::of(object), PERIOD);
        }
        Vec::new()
    });
    work("horizontalpodautoscaler", &queue, 5, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// Why a target cannot be scaled, in upstream's words.
struct NoScale(String);

impl From<Status> for NoScale {
    fn from(status: Status) -> Self {
        NoScale(status.message)
    }
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(object) = self.autoscalers.get(&key.namespace, &key.name) else {
            self.histories.lock().remove(key);
            self.selectors.lock().remove(key);
            return Ok(None);
        };
        let autoscaler: Autoscaler = typed::decode(&object)?;
        let tree = object.value();
        let mut said = Said::new(&tree, Timestamp::now());
        self.look(key, &autoscaler.spec, &mut said).await;
        let about = reference("autoscaling/v2", "HorizontalPodAutoscaler", &object);
        if let Some(written) = said.written(&tree)
            && let Err(status) = self.write(&object, written).await
            && !status.is_not_found()
        {
            self.events.warning(&about, "FailedUpdateStatus", status.message);
        }
        for (warning, reason, message) in said.told {
            match warning {
                true => self.events.warning(&about, reason, message),
                false => self.events.normal(&about, reason, message),
            }
        }
        Ok(Some(PERIOD))
    }

    async fn write(&self, object: &Object, tree: Value) -> Result<(), Status> {
        let all = Collection::of("autoscaling", "v2", "horizontalpodautoscalers");
        let target = all.item(&object.meta().namespace, &object.meta().name).sub("status");
        self.client.update(&target, tree, &WriteOptions::default()).await.map(|_| ())
    }

    /// Looks at one autoscaler and scales its target; what there is to say goes into `said`.
    async fn look(&self, key: &Key, spec: &Spec, said: &mut Said) {
        let (target, scale) = match self.scale(key, spec).await {
            Ok(found) => found,
            Err(NoScale(why)) => {
                said.warn("FailedGetScale", &why);
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {why}");
                return said.condition("AbleToScale", false, "FailedGetScale", &message);
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        said.condition("AbleToScale", true, "SucceededGetScale", message);
        let now = Timestamp::now();
        let current = scale.spec.replicas;
        self.histories.lock().entry(key.clone()).or_default().begin(current, now);
        let (desired, reason) = match first(spec, &scale) {
            First::Disabled => {
                let message = "scaling is disabled since the replica count of the target is zero";
                said.condition("ScalingActive", false, "ScalingDisabled", message);
                said.metrics(Vec::new());
                (current, String::new())
            }
            First::Bound(replicas, reason) => {
                said.metrics(Vec::new());
                (replicas, reason.to_owned())
            }
            First::Metrics => match self.by_metrics(key, spec, &scale, said).await {
                Ok(found) => found,
                Err(why) => {
                    said.replicas(current, None);
                    return said.warn("FailedComputeMetricsReplicas", &why);
                }
            },
        };
        if desired != current {
            match self.rescale(&target, desired).await {
                Ok(()) => {
                    let message =
                        format!("the HPA controller was able to update the target scale to {desired}");
                    said.condition("AbleToScale", true, "SucceededRescale", &message);
                    let message = format!("New size: {desired}; reason: {reason}");
                    said.told.push((false, "SuccessfulRescale", message));
                    let mut histories = self.histories.lock();
                    histories.entry(key.clone()).or_default().scaled(
                        spec.behavior.as_ref(),
                        current,
                        desired,
                        now,
                    );
                    said.scaled();
                }
                Err(status) => {
                    let why = status.message;
                    said.warn(
                        "FailedRescale",
                        &format!("New size: {desired}; reason: {reason}; error: {why}"),
                    );
                    let message = format!("the HPA controller was unable to update the target scale: {why}");
                    said.condition("AbleToScale", false, "FailedUpdateScale", &message);
                    return said.replicas(current, None);
                }
            }
        }
        said.replicas(current, Some(desired));
    }

    /// How many replicas metrics ask for and why.
    async fn by_metrics(
        &self,
        key: &Key,
        spec: &Spec,
        scale: &Scale,
        said: &mut Said,
    ) -> Result<(i64, String), String> {
        let pods = self.pods_of(key, scale, said)?;
        let resources = self.resources.borrow().clone();
        let mut metrics = Metrics {
            client: &*self.client,
            resources: &resources,
            namespace: &key.namespace,
            selector: &scale.status.selector,
            of_pods: None,
        };
        let mut readings = Vec::with_capacity(spec.metrics.len());
        for metric in &spec.metrics {
            readings.push(metrics.read(metric).await);
        }
        let input =
            Input { namespace: &key.namespace, spec, scale, readings, pods: &pods, now: Timestamp::now() };
        let decision = decide(input, self.histories.lock().entry(key.clone()).or_default(), said);
        match (decision.replicas, decision.error) {
            (Some(replicas), _) => Ok((replicas, decision.reason)),
            (None, why) => Err(why.unwrap_or_default()),
        }
    }

    /// The pods of a target, if nobody else scales them.
    fn pods_of(&self, key: &Key, scale: &Scale, said: &mut Said) -> Result<Vec<Pod>, String> {
        let text = &scale.status.selector;
        if text.is_empty() {
            let why = "selector is required";
            said.warn("SelectorRequired", why);
            let message = "the HPA target's scale is missing a selector";
            said.condition("ScalingActive", false, "InvalidSelector", message);
            return Err(why.into());
        }
        let selector = LabelSelector::parse(text).map_err(|error| {
            let why =
                format!("couldn't convert selector into a corresponding internal selector object: {error}");
            said.warn("InvalidSelector", &why);
            said.condition("ScalingActive", false, "InvalidSelector", &why);
            why
        })?;
        let near = self.pods.namespace(&key.namespace);
        let own: Vec<Arc<Object>> =
            near.into_iter().filter(|pod| selector.matches(&pod.meta().labels)).collect();
        let mut selectors = self.selectors.lock();
        selectors.insert(key.clone(), selector);
        let selects = |(other, selector): &(&Key, &LabelSelector)| {
            other.namespace == key.namespace && own.iter().any(|pod| selector.matches(&pod.meta().labels))
        };
        let all: Vec<String> = selectors
            .iter()
            .filter(selects)
            .map(|(key, _)| format!("{}/{}", key.namespace, key.name))
            .collect();
        if all.len() > 1 {
            let why = format!("pods by selector {text} are controlled by multiple HPAs: [{}]", all.join(" "));
            said.warn("AmbiguousSelector", &why);
            said.condition("ScalingActive", false, "AmbiguousSelector", &why);
            return Err(why);
        }
        Ok(own.iter().filter_map(|pod| typed::decode(pod).ok()).collect())
    }

    /// The scale of the target: of whatever resource has its kind and group and answers.
    async fn scale(&self, key: &Key, spec: &Spec) -> Result<(Target, Scale), NoScale> {
        let wanted = &spec.scale_target_ref;
        let group = GroupVersion::parse(&wanted.api_version).group;
        let of_kind = |row: &&ManagedResource| row.kind.kind == *wanted.kind && row.kind.group == group;
        let found: Vec<Collection> =
            self.resources.borrow().iter().filter(of_kind).map(|row| row.collection.clone()).collect();
        let mut why = None;
        for collection in found {
            let target = collection.item(&key.namespace, &wanted.name).sub("scale");
            match self.client.get(&target).await {
                Ok(scale) => return Ok((target, typed::decode(&scale)?)),
                Err(status) => {
                    why.get_or_insert(status);
                }
            }
        }
        let none = || NoScale(format!("no matches for kind {:?} in group {group:?}", wanted.kind));
        Err(why.map_or_else(none, NoScale::from))
    }

    async fn rescale(&self, target: &Target, replicas: i64) -> Result<(), Status> {
        let mut tries = 0;
        loop {
            let mut scale = self.client.get(target).await?.value();
            scale["spec"]["replicas"] = replicas.into();
            match self.client.update(target, scale, &WriteOptions::default()).await {
                Err(status) if status.is_conflict() && tries < TRIES => tries += 1,
                answer => return answer.map(|_| ()),
            }
        }
    }
}
