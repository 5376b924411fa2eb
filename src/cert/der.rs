//! The few lines of DER that replacing a certificate's issuer needs. What is parsed here was just
//! written by rcgen; certificates from outside are read by x509-parser.

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// Splits the first element (tag, length and content) from `bytes`. Single-byte tags and definite
/// lengths only.
pub(super) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, length) = measure(bytes)?;
    bytes.split_at_checked(header.checked_add(length)?)
}

/// The content of the first element of `bytes`.
pub(super) fn content(bytes: &[u8]) -> Option<&[u8]> {
    let (header, length) = measure(bytes)?;
    bytes.get(header..header.checked_add(length)?)
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    wrap(SEQUENCE, parts)
}

/// A bit string of whole bytes.
pub(super) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    wrap(BIT_STRING, &[&[0], bytes])
}

/// Length of the first element's header and of its content, in bytes.
fn measure(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.get(1)?;
    if first < 0x80 {
        return Some((2, usize::from(first)));
    }
    let octets = usize::from(first & 0x7f);
    if octets == 0 || octets > 4 {
        return None;
    }
    let length = bytes
        .get(2..2 + octets)?
        .iter()
        .fold(0usize, |n, b| n << 8 | usize::from(*b));
    Some((2 + octets, length))
}

fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let octets: Vec<u8> = length
                .to_be_bytes()
                .into_iter()
                .skip_while(|b| *b == 0)
                .collect();
            // At most 8 octets, so the sum stays a byte.
            out.push(0x80 | octets.len().to_le_bytes()[0]);
            out.extend(octets);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_wrapped_is_split_again_at_every_length() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 70_000] {
            let body = vec![7u8; length];
            let mut bytes = sequence(&[&body]);
            bytes.extend(b"rest");
            let (element, rest) = split(&bytes).unwrap();
            assert_eq!(rest, b"rest", "{length}");
            assert_eq!(content(element).unwrap(), body, "{length}");
        }
    }

    #[test]
    fn cut_or_indefinite_elements_are_refused() {
        for bytes in [
            &b""[..],
            b"\x30",
            b"\x30\x02\x00",
            b"\x30\x80\x00\x00",
            b"\x30\x82\x01",
            b"\x30\x85\x01\x01\x01\x01\x01",
        ] {
            assert_eq!(split(bytes), None, "{bytes:?}");
        }
    }
}
