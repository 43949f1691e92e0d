//! Text to tokens.

use std::sync::Arc;

use crate::ast::{Issue, Literal};

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A literal; numbers without their sign.
    Literal(Literal),
    /// 9223372036854775808, which only a minus in front makes an int.
    IntMinimum,
    /// An identifier.
    Ident(Arc<str>),
    /// An identifier in backticks: names fields only.
    Quoted(Arc<str>),
    /// An operator or delimiter, the keyword `in` too.
    Symbol(&'static str),
    /// The end.
    End,
}

impl Token {
    /// As it is named in messages.
    pub(crate) fn shown(&self, text: &str) -> String {
        if *self == Token::End { "<EOF>".to_owned() } else { text.chars().take(40).collect() }
    }
}

/// Symbols, longer ones before their beginnings.
const SYMBOLS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}",
];

/// A token with the bytes it covers.
pub(crate) type Placed = (Token, usize, usize);

/// Splits text into tokens; the last is [`Token::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Placed>, Issue> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let token = lexer.next()?;
        let end = token == Token::End;
        tokens.push((token, start, lexer.at));
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}', '\u{b}']).len();
            self.at += blank;
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn issue<T>(&self, offset: usize, message: impl Into<String>) -> Result<T, Issue> {
        Err(Issue { offset, message: format!("Syntax error: {}", message.into()) })
    }

    fn next(&mut self) -> Result<Token, Issue> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if let Some(literal) = self.text_literal()? {
            return Ok(Token::Literal(literal));
        }
        let second_digit = rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        if first.is_ascii_digit() || first == '.' && second_digit {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.at += end;
            return Ok(match &rest[..end] {
                "true" => Token::Literal(Literal::Bool(true)),
                "false" => Token::Literal(Literal::Bool(false)),
                "null" => Token::Literal(Literal::Null),
                "in" => Token::Symbol("in"),
                name => Token::Ident(name.into()),
            });
        }
        if first == '`' {
            let inner = &rest[1..];
            let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-/ ".contains(c);
            let end = inner.find(|c: char| !allowed(c)).unwrap_or(inner.len());
            if end > 0 && inner[end..].starts_with('`') {
                self.at += end + 2;
                return Ok(Token::Quoted(inner[..end].into()));
            }
        }
        match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => {
                self.at += symbol.len();
                Ok(Token::Symbol(symbol))
            }
            None => self.issue(self.at, format!("token recognition error at: '{first}'")),
        }
    }

    fn number(&mut self) -> Result<Token, Issue> {
        let (rest, start) = (self.rest(), self.at);
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        if let Some(hex) = rest.strip_prefix("0x") {
            let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            if end > 0 {
                self.at += 2 + end;
                return self.whole(start, &hex[..end], 16);
            }
        }
        let whole = digits(rest);
        let mut end = whole;
        if rest[end..].starts_with('.') && digits(&rest[end + 1..]) > 0 {
            end += 1 + digits(&rest[end + 1..]);
        }
        let after = &rest[end..];
        if after.starts_with(['e', 'E']) {
            let sign = usize::from(after[1..].starts_with(['+', '-']));
            let exponent = digits(&after[1 + sign..]);
            if exponent > 0 {
                end += 1 + sign + exponent;
            }
        }
        self.at += end;
        if end == whole {
            return self.whole(start, &rest[..whole], 10);
        }
        match rest[..end].parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Token::Literal(Literal::Double(number))),
            _ => self.issue(start, "invalid double literal"),
        }
    }

    fn whole(&mut self, start: usize, digits: &str, radix: u32) -> Result<Token, Issue> {
        let number = u64::from_str_radix(digits, radix);
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            return match number {
                Ok(number) => Ok(Token::Literal(Literal::Uint(number))),
                Err(_) => self.issue(start, "invalid uint literal"),
            };
        }
        match number {
            Ok(number) if i64::try_from(number).is_ok() => Ok(Token::Literal(Literal::Int(number as i64))),
            Ok(number) if number == 1 << 63 => Ok(Token::IntMinimum),
            _ => self.issue(start, "invalid int literal"),
        }
    }

    /// A string or bytes literal, if one begins here.
    fn text_literal(&mut self) -> Result<Option<Literal>, Issue> {
        let (rest, start) = (self.rest(), self.at);
        let (mut raw, mut bytes) = (false, false);
        let mut body = rest;
        if let Some(inner) = body.strip_prefix(['b', 'B']) {
            (bytes, body) = (true, inner);
        }
        if let Some(inner) = body.strip_prefix(['r', 'R']) {
            (raw, body) = (true, inner);
        }
        let Some(quote) = ["'''", "\"\"\"", "'", "\""].into_iter().find(|quote| body.starts_with(*quote))
        else {
            return Ok(None);
        };
        let inner = &body[quote.len()..];
        let Some(end) = end_of(inner, quote, raw) else {
            return self.issue(start, format!("token recognition error at: '{}'", clip(rest)));
        };
        self.at += rest.len() - inner.len() + end + quote.len();
        let content = &inner[..end];
        let content: Vec<u8> = if raw {
            content.into()
        } else {
            match unescape(content, bytes) {
                Ok(content) => content,
                Err(why) => return self.issue(start, why),
            }
        };
        if bytes {
            return Ok(Some(Literal::Bytes(content.into())));
        }
        match String::from_utf8(content) {
            Ok(text) => Ok(Some(Literal::String(text.into()))),
            Err(_) => self.issue(start, "invalid string literal"),
        }
    }
}

fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

fn end_of(inner: &str, quote: &str, raw: bool) -> Option<usize> {
    let mut skip = false;
    for (at, c) in inner.char_indices() {
        if skip {
            skip = false;
        } else if c == '\\' && !raw {
            skip = true;
        } else if inner[at..].starts_with(quote) {
            return Some(at);
        } else if quote.len() == 1 && (c == '\n' || c == '\r') {
            return None;
        }
    }
    None
}

fn unescape(content: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    const BAD: &str = "invalid escape sequence";
    let mut out = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = rest[at + 1..].chars().next().ok_or(BAD)?;
        rest = &rest[at + 1 + escape.len_utf8()..];
        let simple = match escape {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => escape as u8,
            'x' | 'X' | 'u' | 'U' | '0'..='3' => 0,
            _ => return Err(BAD),
        };
        if simple != 0 {
            out.push(simple);
            continue;
        }
        let (length, radix) = match escape {
            'x' | 'X' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            _ => (2, 8),
        };
        if bytes && matches!(escape, 'u' | 'U') {
            return Err("unicode escape sequences are not allowed in bytes");
        }
        let digits = rest.get(..length).ok_or(BAD)?;
        let mut code = u32::from_str_radix(digits, radix).map_err(|_| BAD)?;
        if digits.starts_with(['+', '-']) {
            return Err(BAD);
        }
        rest = &rest[length..];
        if let Some(high) = escape.to_digit(8) {
            code += high * 64;
        }
        if bytes {
            out.push(u8::try_from(code).map_err(|_| BAD)?);
        } else {
            let c = char::from_u32(code).ok_or("invalid unicode code point")?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}
