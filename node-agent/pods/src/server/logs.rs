//! Container logs as the runtime writes them: `TIME STREAM TAG TEXT` lines, in files that are moved away when long.

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader};
use tokio::sync::mpsc;

/// What of a log to send.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Go on as the log grows.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail: Option<usize>,
    /// Only what was written after this.
    pub since: Option<Timestamp>,
    /// Put the time before each line.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit: Option<usize>,
    /// Only this stream (`Stdout`, `Stderr`).
    pub stream: Option<String>,
}

/// Longest line taken at once.
const LINE: usize = 1 << 20;

/// Splits a log line into time, stream, whether it ends the line, and text.
pub fn parse(line: &[u8]) -> Option<(&str, &str, bool, &[u8])> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tag = std::str::from_utf8(parts.next()?).ok()?;
    let text = parts.next().unwrap_or_default();
    Some((time, stream, !tag.split(':').any(|t| t == "P"), text))
}

/// Rotated files of a log, oldest first, then the log itself.
fn files(log: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    if let (Some(dir), Some(name)) = (log.parent(), log.file_name()) {
        let prefix = format!("{}.", name.to_string_lossy());
        out = std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix)))
            .collect();
        out.sort();
    }
    out.push(log.to_path_buf());
    out
}

/// Position of the last `lines` lines of a file.
async fn tail_start(f: &mut File, lines: usize) -> std::io::Result<u64> {
    let len = f.seek(SeekFrom::End(0)).await?;
    let (mut at, mut found) = (len, 0usize);
    if lines == 0 {
        return Ok(len);
    }
    let mut buf = vec![0u8; 16 << 10];
    while at > 0 {
        let n = at.min(buf.len() as u64);
        at -= n;
        f.seek(SeekFrom::Start(at)).await?;
        let Some(part) = buf.get_mut(..n as usize) else { break };
        f.read_exact(part).await?;
        for (i, b) in part.iter().enumerate().rev() {
            let here = at + i as u64;
            if *b == b'\n' && here + 1 != len {
                found += 1;
                if found == lines {
                    return Ok(here + 1);
                }
            }
        }
    }
    Ok(0)
}

/// Sends a log into `tx` until its end or, following, until `alive` says that no more will come.
pub async fn send(
    log: PathBuf,
    o: Options,
    tx: mpsc::Sender<Bytes>,
    alive: impl Fn() -> bool,
) -> std::io::Result<()> {
    let mut left = o.limit.unwrap_or(usize::MAX);
    let all = if o.tail.is_none() { files(&log) } else { vec![log.clone()] };
    let count = all.len();
    for (i, path) in all.into_iter().enumerate() {
        let last = i + 1 == count;
        let mut f = match File::open(&path).await {
            Ok(f) => f,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !last => continue,
            Err(e) => return Err(e),
        };
        if last && let Some(n) = o.tail {
            let at = tail_start(&mut f, n).await?;
            f.seek(SeekFrom::Start(at)).await?;
        }
        if !one(f, &path, &o, &tx, &mut left, last && o.follow, &alive).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends one file; answers whether there is room for more.
async fn one(
    f: File,
    path: &Path,
    o: &Options,
    tx: &mpsc::Sender<Bytes>,
    left: &mut usize,
    follow: bool,
    alive: &impl Fn() -> bool,
) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let mut inode = f.metadata().await?.ino();
    let mut reader = BufReader::with_capacity(32 << 10, f);
    let mut line = Vec::new();
    let mut out = BytesMut::new();
    let mut last_look = false;
    loop {
        let n = (&mut reader).take(LINE as u64).read_until(b'\n', &mut line).await?;
        if n == 0 || !line.ends_with(b"\n") && n < LINE {
            // The end for now.
            if !out.is_empty() && tx.send(out.split().freeze()).await.is_err() {
                return Ok(false);
            }
            if !follow || tx.is_closed() {
                return Ok(true);
            }
            if n > 0 {
                continue_later(tx).await;
                continue;
            }
            let moved = std::fs::metadata(path).is_ok_and(|m| m.ino() != inode);
            if moved {
                let fresh = File::open(path).await?;
                inode = fresh.metadata().await?.ino();
                reader = BufReader::with_capacity(32 << 10, fresh);
                continue;
            }
            if !alive() {
                if last_look {
                    return Ok(true);
                }
                last_look = true;
            } else {
                last_look = false;
            }
            continue_later(tx).await;
            continue;
        }
        if let Some((time, stream, whole, text)) = parse(&line) {
            let text = text.strip_suffix(b"\n").unwrap_or(text);
            let wanted = o.stream.as_deref().is_none_or(|s| s.eq_ignore_ascii_case(stream));
            let recent = o.since.is_none_or(|s| time.parse::<Timestamp>().is_ok_and(|t| t >= s));
            if wanted && recent {
                let before = out.len();
                if o.timestamps {
                    out.extend_from_slice(time.as_bytes());
                    out.extend_from_slice(b" ");
                }
                out.extend_from_slice(text);
                if whole {
                    out.extend_from_slice(b"\n");
                }
                let added = out.len() - before;
                if added >= *left {
                    out.truncate(before + *left);
                    let _ = tx.send(out.freeze()).await;
                    return Ok(false);
                }
                *left -= added;
            }
        }
        line.clear();
        if out.len() > 16 << 10 && tx.send(out.split().freeze()).await.is_err() {
            return Ok(false);
        }
    }
}

async fn continue_later(tx: &mpsc::Sender<Bytes>) {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
        () = tx.closed() => {}
    }
}

/// The last lines of a log as text, for termination messages.
pub async fn tail_text(log: &Path, lines: usize, bytes: usize) -> String {
    let (tx, mut rx) = mpsc::channel(8);
    let o = Options { tail: Some(lines), ..Options::default() };
    let path = log.to_path_buf();
    tokio::spawn(async move { send(path, o, tx, || false).await });
    let mut all = Vec::new();
    while let Some(b) = rx.recv().await {
        all.extend_from_slice(&b);
    }
    let from = all.len().saturating_sub(bytes);
    String::from_utf8_lossy(all.get(from..).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &str, o: Options) -> String {
        let dir = std::env::temp_dir().join(format!("skep-log-{}-{}", std::process::id(), uuid_like()));
        std::fs::create_dir_all(&dir).unwrap();
        let log = dir.join("0.log");
        std::fs::write(&log, text).unwrap();
        let (tx, mut rx) = mpsc::channel(8);
        tokio::spawn(send(log, o, tx, || false));
        let mut all = Vec::new();
        while let Some(b) = rx.recv().await {
            all.extend_from_slice(&b);
        }
        std::fs::remove_dir_all(dir).unwrap();
        String::from_utf8(all).unwrap()
    }

    fn uuid_like() -> u128 {
        Timestamp::now().as_nanosecond().unsigned_abs()
    }

    const TEXT: &str = "2026-01-01T00:00:00Z stdout P hal\n2026-01-01T00:00:00Z stdout F f\n\
                        2026-01-01T00:00:01Z stderr F two\n2026-01-01T00:00:02Z stdout F three\n";

    #[tokio::test]
    async fn joins_partial_lines_and_limits() {
        assert_eq!(read(TEXT, Options::default()).await, "half\ntwo\nthree\n");
        assert_eq!(read(TEXT, Options { tail: Some(2), ..Options::default() }).await, "two\nthree\n");
        assert_eq!(read(TEXT, Options { tail: Some(0), ..Options::default() }).await, "");
        assert_eq!(read(TEXT, Options { limit: Some(6), ..Options::default() }).await, "half\nt");
        let since = Some("2026-01-01T00:00:02Z".parse().unwrap());
        assert_eq!(read(TEXT, Options { since, ..Options::default() }).await, "three\n");
        let o = Options { timestamps: true, tail: Some(1), ..Options::default() };
        assert_eq!(read(TEXT, o).await, "2026-01-01T00:00:02Z three\n");
        let o = Options { stream: Some("Stderr".into()), ..Options::default() };
        assert_eq!(read(TEXT, o).await, "two\n");
    }
}
