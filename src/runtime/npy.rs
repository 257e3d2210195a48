//! NumPy's array format (.npy, versions 1 to 3): the way tensors enter and leave the command line.

/// The elements of an array.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is named after its element type")]
pub enum Elements {
    F32(Vec<f32>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    I16(Vec<i16>),
    U16(Vec<u16>),
    I8(Vec<i8>),
    U8(Vec<u8>),
}

/// An array as a .npy file holds it, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Extent of every axis.
    pub shape: Vec<usize>,
    /// The elements.
    pub elements: Elements,
}

/// Why bytes are no array that we read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NpyError(String);

impl Elements {
    /// NumPy's name of the type, such as `<f4`.
    pub fn descr(&self) -> &'static str {
        match self {
            Elements::F32(_) => "<f4",
            Elements::I64(_) => "<i8",
            Elements::I32(_) => "<i4",
            Elements::I16(_) => "<i2",
            Elements::U16(_) => "<u2",
            Elements::I8(_) => "|i1",
            Elements::U8(_) => "|u1",
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Elements::F32(x) => x.len(),
            Elements::I64(x) => x.len(),
            Elements::I32(x) => x.len(),
            Elements::I16(x) => x.len(),
            Elements::U16(x) => x.len(),
            Elements::I8(x) => x.len(),
            Elements::U8(x) => x.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integers, if the type is one.
    pub fn integers(&self) -> Option<Vec<i64>> {
        Some(match self {
            Elements::F32(_) => return None,
            Elements::I64(x) => x.clone(),
            Elements::I32(x) => x.iter().map(|&x| x.into()).collect(),
            Elements::I16(x) => x.iter().map(|&x| x.into()).collect(),
            Elements::U16(x) => x.iter().map(|&x| x.into()).collect(),
            Elements::I8(x) => x.iter().map(|&x| x.into()).collect(),
            Elements::U8(x) => x.iter().map(|&x| x.into()).collect(),
        })
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Elements::F32(x) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Elements::I64(x) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Elements::I32(x) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Elements::I16(x) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Elements::U16(x) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Elements::I8(x) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Elements::U8(x) => x.clone(),
        }
    }
}

/// The file of an array, version 1.0.
pub fn write(array: &Array) -> Vec<u8> {
    let shape: String = array.shape.iter().map(|n| format!("{n},")).collect();
    let descr = array.elements.descr();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    header += &" ".repeat(63 - (10 + header.len()) % 64);
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    // A rank of thousands would be needed to pass 65535, and no runtime takes more than 6.
    out.extend(u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(header.bytes());
    out.extend(array.elements.bytes());
    out
}

/// The array of a file.
///
/// # Errors
/// Bytes that are no .npy file, column-major order, element types that no port has, a payload that
/// does not fill the shape.
pub fn read(bytes: &[u8]) -> Result<Array, NpyError> {
    let error = |message: String| NpyError(message);
    let version = match bytes {
        [0x93, b'N', b'U', b'M', b'P', b'Y', version, _, ..] => *version,
        _ => return Err(error("is no .npy file".into())),
    };
    let (len, at) = match (version, bytes.get(8..10), bytes.get(8..12)) {
        (1, Some(&[a, b]), _) => (usize::from(u16::from_le_bytes([a, b])), 10_usize),
        (2 | 3, _, Some(&[a, b, c, d])) => (u32::from_le_bytes([a, b, c, d]) as usize, 12),
        (1..=3, ..) => return Err(error("ends within its header".into())),
        _ => return Err(error(format!("has .npy version {version}, expected 1 to 3"))),
    };
    let header = at.checked_add(len).and_then(|end| bytes.get(at..end));
    let header = header.and_then(|h| std::str::from_utf8(h).ok());
    let header = header.ok_or_else(|| error("ends within its header".into()))?;
    let field = |name: &str| {
        let (_, rest) = header.split_once(&format!("'{name}':"))?;
        Some(rest.trim_start())
    };
    let quoted = |text: &'static str| field(text)?.strip_prefix('\'')?.split_once('\'');
    let descr = quoted("descr").map(|(descr, _)| descr).unwrap_or_default();
    if field("fortran_order").is_some_and(|rest| rest.starts_with("True")) {
        return Err(error("is in column-major order, expected row-major".into()));
    }
    let shape = field("shape")
        .and_then(|rest| rest.strip_prefix('(')?.split_once(')'))
        .ok_or_else(|| error("has no shape in its header".into()))?;
    let shape: Vec<usize> = shape
        .0
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|_| error(format!("has the extent {part:?}"))))
        .collect::<Result<_, _>>()?;
    let payload = &bytes[at + len..];
    let elements = elements(descr, payload).ok_or_else(|| {
        error(format!("has elements {descr:?}, expected f4, i8, i4, i2, u2, i1 or u1"))
    })?;
    let count = shape.iter().try_fold(1_usize, |count, &n| count.checked_mul(n));
    let needed = count.and_then(|count| count.checked_mul(width(&elements)));
    if needed != Some(payload.len()) {
        let (found, needed) = (payload.len(), needed.map_or("more".into(), |n| n.to_string()));
        return Err(error(format!(
            "holds {found} bytes after its header, expected {needed} for shape {shape:?} of {descr:?}"
        )));
    }
    Ok(Array { shape, elements })
}

/// Bytes of an element.
fn width(elements: &Elements) -> usize {
    match elements {
        Elements::I64(_) => 8,
        Elements::F32(_) | Elements::I32(_) => 4,
        Elements::I16(_) | Elements::U16(_) => 2,
        Elements::I8(_) | Elements::U8(_) => 1,
    }
}

fn elements(descr: &str, payload: &[u8]) -> Option<Elements> {
    let (four, _) = payload.as_chunks::<4>();
    Some(match descr {
        "<f4" => Elements::F32(four.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        "<i4" => Elements::I32(four.iter().map(|&b| i32::from_le_bytes(b)).collect()),
        "<i8" => {
            Elements::I64(payload.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect())
        }
        "<i2" => {
            Elements::I16(payload.as_chunks().0.iter().map(|&b| i16::from_le_bytes(b)).collect())
        }
        "<u2" => {
            Elements::U16(payload.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b)).collect())
        }
        "|i1" | "<i1" => Elements::I8(payload.iter().map(|&b| i8::from_le_bytes([b])).collect()),
        "|u1" | "<u1" => Elements::U8(payload.to_vec()),
        _ => return None,
    })
}
