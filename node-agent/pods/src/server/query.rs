//! What follows the `?` of a request.

/// Query parameters, in order.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(q: &str) -> Self {
        let pairs = q.split('&').filter(|p| !p.is_empty()).map(|p| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (decode(k), decode(v))
        });
        Self(pairs.collect())
    }

    pub(super) fn get(&self, k: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == k && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    pub(super) fn all(&self, k: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == k).map(|(_, v)| v.clone()).collect()
    }

    pub(super) fn flag(&self, k: &str) -> bool {
        matches!(self.get(k), Some("true" | "1"))
    }
}

/// Undoes percent encoding and `+`.
pub(super) fn decode(s: &str) -> String {
    let mut out = Vec::with_capacity(s.len());
    let b = s.as_bytes();
    let mut i = 0;
    while let Some(c) = b.get(i) {
        match c {
            b'+' => out.push(b' '),
            b'%' => {
                let hex = b.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
                match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
                    Some(v) => {
                        out.push(v);
                        i += 2;
                    }
                    None => out.push(b'%'),
                }
            }
            c => out.push(*c),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let q = Query::parse("command=ls&command=-l+%2Ftmp&tty=1&x=&flag=false&bad=%zz");
        assert_eq!(q.all("command"), ["ls", "-l /tmp"]);
        assert!(q.flag("tty") && !q.flag("flag") && !q.flag("none"));
        assert_eq!((q.get("x"), q.get("bad")), (None, Some("%zz")));
    }
}
