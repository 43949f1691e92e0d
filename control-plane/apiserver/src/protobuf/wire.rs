//! The wire format: tagged fields.

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it does not begin as one")]
    Magic,
    #[error("it is cut short")]
    Cut,
    #[error("a field is of another type than its number says")]
    Type,
    #[error("a text is not UTF-8")]
    Text,
    #[error("embedded JSON is malformed")]
    Json,
    #[error("a time is out of range")]
    Time,
    #[error("it is nested too deep")]
    Depth,
}

/// One field's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message with their numbers, in their order.
pub(super) fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { rest: bytes }
}

pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u32, Field<'a>), Malformed> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed::Cut)?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(self.take(8)?.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(usize::try_from(length).map_err(|_| Malformed::Cut)?)?)
            }
            5 => Field::Varint(self.take(4)?.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))),
            _ => return Err(Malformed::Type),
        };
        Ok((number, field))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut out = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().ok_or(Malformed::Cut)?;
            out |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(Malformed::Cut)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(Malformed::Cut)?;
        self.rest = rest;
        Ok(head)
    }
}

/// A text.
pub(super) fn text(bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed::Text)
}

/// One entry of a list, or all of them where numbers come packed.
pub(super) fn unpacked(field: Field<'_>, numbers: bool) -> Result<Vec<Field<'_>>, Malformed> {
    let Field::Bytes(bytes) = field else { return Ok(vec![field]) };
    if !numbers {
        return Ok(vec![field]);
    }
    let mut packed = fields(bytes);
    let mut out = Vec::new();
    while !packed.rest.is_empty() {
        out.push(Field::Varint(packed.varint()?));
    }
    Ok(out)
}
