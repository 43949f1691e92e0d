//! Rewriting links in HTML as it streams by. Only values of attributes that are links change; every other byte stays.

/// Attributes that hold links, by element (HTML 4.01 and 5).
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements within which nothing is markup until they end.
const RAW: &[&str] =
    &["iframe", "noembed", "noframes", "plaintext", "script", "style", "textarea", "title", "xmp"];

/// Longest tag that is looked at, in bytes; a longer one passes as it is.
const TAG: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    Comment,
    /// Within an element of [`RAW`].
    Raw(&'static str),
}

/// What the beginning of the rest is.
enum Step {
    /// So many bytes are no tag and pass.
    Pass(usize, State),
    /// A start tag of so many bytes.
    Tag(usize),
    /// More bytes must come first; so many may pass already.
    Wait(usize),
}

/// The rewriter of one page.
pub(super) struct Html<F> {
    link: F,
    state: State,
    rest: Vec<u8>,
}

impl<F: Fn(&str) -> Option<String>> Html<F> {
    /// `link` gives what a link becomes; none where it stays.
    pub(super) fn new(link: F) -> Self {
        Html { link, state: State::Text, rest: Vec::new() }
    }

    /// Takes a piece of the page; appends what can be said of it to `out`. Holds back at most an unfinished tag.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.rest.extend_from_slice(piece);
        let rest = std::mem::take(&mut self.rest);
        let mut at = 0;
        while let Some(left) = rest.get(at..).filter(|left| !left.is_empty()) {
            let step = match self.state {
                State::Text => text(left),
                State::Comment => comment(left),
                State::Raw(name) => raw(left, name),
            };
            match step {
                Step::Pass(count, state) => {
                    out.extend_from_slice(left.get(..count).unwrap_or(left));
                    self.state = state;
                    at += count;
                }
                Step::Tag(count) => {
                    let tag = left.get(..count).unwrap_or(left);
                    self.state = self.tag(tag, out);
                    at += count;
                }
                Step::Wait(count) => {
                    out.extend_from_slice(left.get(..count).unwrap_or(left));
                    at += count;
                    break;
                }
            }
        }
        self.rest = rest.get(at..).unwrap_or_default().to_vec();
    }

    /// Appends what was held back: the page has ended.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.rest);
    }

    /// Appends a start tag with its links rewritten; answers what follows it.
    fn tag(&self, tag: &[u8], out: &mut Vec<u8>) -> State {
        let end = tag.iter().position(|b| b.is_ascii_whitespace() || b"/>".contains(b)).unwrap_or(tag.len());
        let name = String::from_utf8_lossy(tag.get(1..end).unwrap_or_default()).to_ascii_lowercase();
        match LINKS.iter().find(|(element, _)| *element == name) {
            Some((_, names)) => self.attributes(tag, end, names, out),
            None => out.extend_from_slice(tag),
        }
        RAW.iter().find(|element| **element == name).map_or(State::Text, |element| State::Raw(element))
    }

    fn attributes(&self, tag: &[u8], mut at: usize, names: &[&str], out: &mut Vec<u8>) {
        let mut told = 0;
        let byte = |at: usize| tag.get(at).copied().unwrap_or(b'>');
        let skip = |mut at: usize, until: &dyn Fn(u8) -> bool| {
            while at < tag.len() && !until(byte(at)) {
                at += 1;
            }
            at
        };
        let solid = |b: u8| !b.is_ascii_whitespace();
        while at < tag.len() {
            let from = skip(at, &|b| solid(b) && b != b'/');
            if byte(from) == b'>' {
                break;
            }
            let to = skip(from + 1, &|b| b.is_ascii_whitespace() || b"=/>".contains(&b));
            let name = tag.get(from..to).unwrap_or_default().to_ascii_lowercase();
            at = skip(to, &solid);
            if byte(at) != b'=' {
                continue;
            }
            at = skip(at + 1, &solid);
            let quote = byte(at);
            let (start, stop, next) = if matches!(quote, b'"' | b'\'') {
                let stop = skip(at + 1, &|b| b == quote);
                (at + 1, stop, stop + 1)
            } else {
                let stop = skip(at, &|b| b.is_ascii_whitespace() || b == b'>');
                (at, stop, stop)
            };
            let is_link = names.iter().any(|n| n.as_bytes() == name);
            let value = std::str::from_utf8(tag.get(start..stop).unwrap_or_default());
            if let (true, Ok(value)) = (is_link, value)
                && let Some(new) = (self.link)(&unescape(value))
            {
                out.extend_from_slice(tag.get(told..at).unwrap_or_default());
                out.push(b'"');
                out.extend_from_slice(escape(&new).as_bytes());
                out.push(b'"');
                told = next;
            }
            at = next;
        }
        out.extend_from_slice(tag.get(told..).unwrap_or_default());
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window.eq_ignore_ascii_case(what))
}

/// `text` is not empty.
fn text(text: &[u8]) -> Step {
    match text.iter().position(|b| *b == b'<') {
        None => return Step::Pass(text.len(), State::Text),
        Some(0) => {}
        Some(at) => return Step::Pass(at, State::Text),
    }
    match text.get(1) {
        None => Step::Wait(0),
        Some(b) if b.is_ascii_alphabetic() => match tag_end(text) {
            Some(end) => Step::Tag(end),
            None if text.len() > TAG => Step::Pass(1, State::Text),
            None => Step::Wait(0),
        },
        Some(b'!') if text.starts_with(b"<!--") => Step::Pass(4, State::Comment),
        Some(b'!') if text.len() < 4 && b"<!--".starts_with(text) => Step::Wait(0),
        Some(_) => Step::Pass(1, State::Text),
    }
}

fn comment(text: &[u8]) -> Step {
    match find(text, b"-->") {
        Some(at) => Step::Pass(at + 3, State::Text),
        None => Step::Wait(text.len().saturating_sub(2)),
    }
}

fn raw(text: &[u8], name: &'static str) -> Step {
    let end = [b"</", name.as_bytes()].concat();
    match find(text, &end) {
        Some(at) => Step::Pass(at + end.len(), State::Text),
        None => Step::Wait(text.len().saturating_sub(end.len() - 1)),
    }
}

/// Length of the tag at the beginning, if it is whole: a `>` in quotes does not end it.
fn tag_end(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    let mut value = false;
    for (at, byte) in text.iter().enumerate().take(TAG) {
        match (quote, byte) {
            (Some(q), b) if q == *b => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') if value => quote = Some(*byte),
            (None, _) => {}
        }
        value = *byte == b'=' || value && byte.is_ascii_whitespace();
    }
    None
}

/// Undoes the character references that links have.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let known = after.split_once(';').filter(|(name, _)| name.len() < 12).and_then(|(name, tail)| {
            let character = match name {
                "amp" => Some('&'),
                "lt" => Some('<'),
                "gt" => Some('>'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                _ => {
                    let number = name.strip_prefix('#')?;
                    let code = match number.strip_prefix(['x', 'X']) {
                        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                        None => number.parse().ok()?,
                    };
                    char::from_u32(code)
                }
            };
            character.map(|c| (c, tail))
        });
        match known {
            Some((character, tail)) => {
                out.push(character);
                rest = tail;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&#34;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str, step: usize) -> String {
        let mut html = Html::new(|link: &str| link.starts_with('/').then(|| format!("/P{link}")));
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(step) {
            html.push(piece, &mut out);
        }
        html.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn links_change_and_nothing_else() {
        for (text, want) in [
            (r#"<a href="/rewriteme">test</a>"#, r#"<a href="/P/rewriteme">test</a>"#),
            (r#"<A HREF='/x' class=y>"#, r#"<A HREF="/P/x" class=y>"#),
            ("<a href=/x>t</a>", r#"<a href="/P/x">t</a>"#),
            ("<a  href = \"/x\"\n/>", "<a  href = \"/P/x\"\n/>"),
            (r#"<a href="x" title="/y">"#, r#"<a href="x" title="/y">"#),
            (
                r#"<img src="/a" alt="1 > 0" longdesc="/b">"#,
                r#"<img src="/P/a" alt="1 > 0" longdesc="/P/b">"#,
            ),
            (r#"<a href="/x?a=1&amp;b=2">"#, r#"<a href="/P/x?a=1&amp;b=2">"#),
            (r#"<a href="/&#x41;&copy">"#, r#"<a href="/P/A&amp;copy">"#),
            (r#"<!-- <a href="/x"> --><a href="/y">"#, r#"<!-- <a href="/x"> --><a href="/P/y">"#),
            (
                r#"<script src="/s">if (a<b) x = '<a href="/x">';</script><a href="/y">"#,
                r#"<script src="/P/s">if (a<b) x = '<a href="/x">';</script><a href="/P/y">"#,
            ),
            ("1 < 2 and <b>3</b> <!DOCTYPE html> <", "1 < 2 and <b>3</b> <!DOCTYPE html> <"),
            (r#"<div href="/x"><p>"#, r#"<div href="/x"><p>"#),
            (r#"<a href="/x"#, r#"<a href="/x"#),
            ("<a href>", "<a href>"),
            ("<form action='/go'>", "<form action=\"/P/go\">"),
        ] {
            for step in [1, 2, 7, 1000] {
                assert_eq!(page(text, step), want, "{text} by {step}");
            }
        }
    }

    #[test]
    fn a_tag_without_an_end_is_not_kept_for_ever() {
        let mut html = Html::new(|_: &str| Some("no".to_owned()));
        let mut out = Vec::new();
        html.push(b"<a href=\"", &mut out);
        for _ in 0..100 {
            html.push(&[b'x'; 1 << 10], &mut out);
            assert!(html.rest.len() <= TAG + (1 << 10) + 9);
        }
        html.finish(&mut out);
        assert_eq!(out.len(), 9 + (100 << 10));
    }

    #[test]
    fn arbitrary_bytes_pass() {
        let alphabet = b"<a href='\"/x>=! -script&;\x00\xff";
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        for _ in 0..3000 {
            let text: Vec<u8> = (0..next() % 200).map(|_| alphabet[next() % alphabet.len()]).collect();
            let mut html = Html::new(|_: &str| None);
            let mut out = Vec::new();
            for piece in text.chunks(1 + next() % 9) {
                html.push(piece, &mut out);
            }
            html.finish(&mut out);
            assert_eq!(out, text, "without links to rewrite every byte stays");
        }
    }
}
