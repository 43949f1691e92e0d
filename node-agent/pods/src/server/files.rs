//! `/logs/`: the files below the machine's log directory, listed and read.

use super::{Body, text};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::io;
use std::path::{Component, Path, PathBuf};
use tokio::io::AsyncReadExt;

/// Where the machine's logs lie.
pub(super) const LOGS: &str = "/var/log";
/// Size of the pieces a file is sent in.
const PIECE: usize = 32 << 10;

/// The file or directory that is asked for: below `root`, whatever links lead to.
fn resolve(root: &Path, asked: &str) -> io::Result<PathBuf> {
    let outside = || io::Error::new(io::ErrorKind::NotFound, "outside of the logs");
    let mut path = root.to_path_buf();
    for part in Path::new(asked).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    let real = path.canonicalize()?;
    if real.starts_with(root.canonicalize()?) { Ok(real) } else { Err(outside()) }
}

/// A directory as a page of links.
fn listing(at: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(at)?.flatten() {
        let slash = if entry.path().is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let escape = |s: &str| s.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&#34;");
    let lines: String = names
        .iter()
        .map(|name| {
            let link = name.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
            format!("<a href=\"{}\">{}</a>\n", escape(&link), escape(name))
        })
        .collect();
    Ok(format!(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{lines}</pre>\n"
    ))
}

/// Answers a path below `/logs/`. A directory's own path ends in a slash.
pub(super) async fn answer(root: &Path, asked: &str) -> Response<Body> {
    let found = resolve(root, asked).and_then(|path| Ok((path.metadata()?, path)));
    let typed = |mut r: Response<Body>, kind: &'static str| {
        r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        r
    };
    let missing = |_| text(StatusCode::NOT_FOUND, "404 page not found\n");
    match found {
        Err(why) => missing(why),
        Ok((meta, path)) if meta.is_dir() => match listing(&path) {
            Ok(page) => typed(text(StatusCode::OK, &page), "text/html; charset=utf-8"),
            Err(why) => missing(why),
        },
        Ok((meta, path)) if meta.is_file() => match tokio::fs::File::open(path).await {
            // As much as there is now: a log that grows would never end.
            Ok(file) => typed(send(file, meta.len()), "text/plain; charset=utf-8"),
            Err(why) => missing(why),
        },
        Ok(_) => missing(io::ErrorKind::NotFound.into()),
    }
}

fn send(file: tokio::fs::File, length: u64) -> Response<Body> {
    let pieces = futures::stream::unfold(file.take(length), |mut file| async move {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).await.ok().filter(|n| *n > 0)?;
        piece.truncate(read);
        Some((Bytes::from(piece), file))
    });
    Response::new(StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listed_read_and_nothing_outside() {
        let dir = std::env::temp_dir().join(format!("skep-files-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("logs/sub")).unwrap();
        std::fs::write(dir.join("logs/a&b.log"), "lines\n").unwrap();
        std::fs::write(dir.join("secret"), "no").unwrap();
        std::os::unix::fs::symlink(dir.join("secret"), dir.join("logs/link")).unwrap();
        std::os::unix::fs::symlink(dir.join("logs/a&b.log"), dir.join("logs/sub/inside")).unwrap();
        let root = dir.join("logs");
        let ask = |path: &'static str| {
            let root = root.clone();
            async move {
                let r = answer(&root, path).await;
                let code = r.status().as_u16();
                (code, String::from_utf8(r.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
            }
        };
        let (code, page) = ask("").await;
        assert_eq!(code, 200);
        assert!(page.contains("<a href=\"a&amp;b.log\">a&amp;b.log</a>\n<a href=\"link\">link</a>\n<a href=\"sub/\">sub/</a>"), "{page}");
        assert_eq!(ask("a&b.log").await, (200, "lines\n".to_owned()));
        assert_eq!(ask("sub/inside").await, (200, "lines\n".to_owned()));
        for path in ["../secret", "sub/../../secret", "link", "none"] {
            assert_eq!(ask(path).await.0, 404, "{path}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
