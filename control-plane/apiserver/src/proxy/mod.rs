//! Passing a request on to somebody else: the `proxy` subresources of pods, Services and nodes, and the upgrades of what
//! reaches into pods.
//!
//! Bodies stream both ways. Links of HTML pages and `Location` headers are made to lead through the proxy.

mod handlers;
mod headers;
mod html;
mod links;
mod path;
#[cfg(test)]
mod tests;

pub(crate) use handlers::{refuse_dry_run, register};

use crate::dial::{Dialer, Target, backend_failure, incoming, unreachable};
use crate::hooks::{Body, full};
use crate::http::Peer;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, MultiGzDecoder};
use html::Html;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use links::Links;
use path::Route;
use skep_api::{Reason, Status};
use skep_streams::splice::splice;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

/// What the client named the server.
fn host_of(request: &Request<Body>) -> String {
    let header = request.headers().get(HOST).and_then(|h| h.to_str().ok());
    header.or_else(|| request.uri().authority().map(|a| a.as_str())).unwrap_or_default().to_owned()
}

fn client_of(request: &Request<Body>) -> Option<IpAddr> {
    request.extensions().get::<Arc<Peer>>().and_then(|peer| peer.address)
}

fn with_query(path: &str, request: &Request<Body>) -> String {
    match request.uri().query() {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.to_owned(),
    }
}

/// Passes a request on, and its answer back.
///
/// # Errors
/// 503 when nobody answers.
async fn carry(
    dialer: &Dialer,
    target: &Target,
    route: &Route,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    if skep_streams::upgrade::is_upgrade(request.headers()) {
        let line = with_query(&route.line(), &request);
        return upgrade(dialer, target, &line, request).await;
    }
    if route.inner.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
        // The page's relative links lead to its own place only below a path that ends in a slash.
        return redirect(&with_query(&format!("{}/", route.prefix), &request));
    }
    let (client, host) = (client_of(&request), host_of(&request));
    let links = Links { prefix: route.prefix.clone(), target: target.authority(), host: host.clone() };
    let line = with_query(&route.line(), &request);
    let (parts, body) = request.into_parts();
    let uri = if route.inner.is_empty() {
        route.prefix.clone()
    } else {
        format!("{}{}", route.prefix, route.line())
    };
    let mut onward = Request::builder()
        .method(parts.method.clone())
        .uri(line)
        .body(body)
        .map_err(|why| Status::bad_request(why.to_string()))?;
    *onward.headers_mut() = headers::request(&parts.headers, &host, client, &uri);
    let answer = dialer.send(target, onward).await.map_err(unreachable)?;
    Ok(led_back(incoming(answer), &parts.method, links))
}

fn redirect(to: &str) -> Result<Response<Body>, Status> {
    Response::builder()
        .status(StatusCode::MOVED_PERMANENTLY)
        .header(LOCATION, to)
        .body(full(Bytes::new()))
        .map_err(Status::internal)
}

/// An answer with its links made to lead through the proxy.
fn led_back(mut answer: Response<Body>, method: &Method, links: Links) -> Response<Body> {
    headers::response(answer.headers_mut());
    let text = |headers: &HeaderMap, name| {
        headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let location = text(answer.headers(), LOCATION);
    if !location.is_empty() {
        if let Some(Ok(led)) = links.rewrite(&location).map(|l| HeaderValue::from_str(&l)) {
            answer.headers_mut().insert(LOCATION, led);
        }
        return answer;
    }
    let media_type = text(answer.headers(), CONTENT_TYPE);
    let is_html = media_type.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("text/html"));
    let zipped = match text(answer.headers(), CONTENT_ENCODING).as_str() {
        "" | "identity" => false,
        "gzip" => true,
        // Nothing can be said about what cannot be read.
        _ => return answer,
    };
    if !is_html || *method == Method::HEAD {
        return answer;
    }
    answer.headers_mut().remove(CONTENT_LENGTH);
    answer.map(|body| rewritten(body, Page::new(links, zipped)))
}

type Rewrite = Box<dyn Fn(&str) -> Option<String> + Send>;

/// Unpacks and packs again.
type Zip = (MultiGzDecoder<Vec<u8>>, GzEncoder<Vec<u8>>);

/// A page on its way, unpacked and packed again where it is compressed.
struct Page {
    html: Html<Rewrite>,
    zip: Option<Zip>,
}

impl Page {
    fn new(links: Links, zipped: bool) -> Self {
        let zip = || (MultiGzDecoder::new(Vec::new()), GzEncoder::new(Vec::new(), Compression::fast()));
        Page { html: Html::new(Box::new(move |link: &str| links.rewrite(link))), zip: zipped.then(zip) }
    }

    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let Some((unzip, zip)) = &mut self.zip else {
            self.html.push(piece, out);
            return Ok(());
        };
        // In small pieces, since a few bytes may unpack to a thousand times as many.
        for part in piece.chunks(1 << 10) {
            unzip.write_all(part)?;
            unzip.flush()?;
            let mut page = Vec::new();
            self.html.push(&std::mem::take(unzip.get_mut()), &mut page);
            zip.write_all(&page)?;
        }
        zip.flush()?;
        out.append(zip.get_mut());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some((mut unzip, mut zip)) = self.zip.take() else {
            self.html.finish(out);
            return Ok(());
        };
        unzip.try_finish()?;
        let mut page = Vec::new();
        self.html.push(&std::mem::take(unzip.get_mut()), &mut page);
        self.html.finish(&mut page);
        zip.write_all(&page)?;
        out.append(&mut zip.finish()?);
        Ok(())
    }
}

/// A body as its page is rewritten.
fn rewritten(body: Body, page: Page) -> Body {
    let pieces = futures::stream::try_unfold(Some((body, page)), |state| async move {
        let Some((mut body, mut page)) = state else { return Ok(None) };
        loop {
            let mut out = Vec::new();
            match body.frame().await {
                Some(frame) => {
                    let Ok(piece) = frame?.into_data() else { continue };
                    page.push(&piece, &mut out)?;
                    if !out.is_empty() {
                        return Ok(Some((Frame::data(Bytes::from(out)), Some((body, page)))));
                    }
                }
                None => {
                    page.finish(&mut out)?;
                    return Ok(Some((Frame::data(Bytes::from(out)), None)));
                }
            }
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Upgrades the client's connection to whatever the other side agrees to, and copies bytes from then on. `line`: path and
/// query for the other side. What the other side answers instead, from 400 on, is the answer.
///
/// # Errors
/// 500 when nobody answers, or neither agrees nor refuses.
pub(crate) async fn upgrade(
    dialer: &Dialer,
    target: &Target,
    line: &str,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let mut onward = Request::builder()
        .method(request.method().clone())
        .uri(line)
        .body(full(Bytes::new()))
        .map_err(|why| Status::bad_request(why.to_string()))?;
    *onward.headers_mut() = headers::upgrade(request.headers(), &host_of(&request), client_of(&request));
    let mut answer = dialer.send(target, onward).await.map_err(backend_failure)?;
    let code = answer.status();
    if code != StatusCode::SWITCHING_PROTOCOLS {
        if code.as_u16() < 400 {
            let message = format!("invalid upgrade response: status code {}", code.as_u16());
            return Err(Status { code: 500, reason: Reason::Unknown, message, details: None });
        }
        let mut refused = incoming(answer);
        headers::end_to_end(refused.headers_mut());
        return Ok(refused);
    }
    let (near, far) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut answer));
    tokio::spawn(async move {
        let spliced = match futures::future::try_join(near, far).await {
            Ok((near, far)) => splice(TokioIo::new(near), TokioIo::new(far)).await,
            Err(why) => Err(io::Error::other(why)),
        };
        if let Err(why) = spliced {
            tracing::debug!(%why, "an upgraded connection ended");
        }
    });
    let mut switching = Response::new(full(Bytes::new()));
    *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switching.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(switching)
}
