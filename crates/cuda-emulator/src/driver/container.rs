//! The container that compiled kernels lie in within a program (its head is described by `fatbinary_section.h`, the rest by what
//! `cuobjdump` shows of it).

use super::{Code, bytes, code, get};

/// What the structure begins with that a program registers.
const WRAPPER: u32 = 0x4662_43b1;
/// What a container begins with.
const CONTAINER: u32 = 0xba55_ed50;
/// The kind of an entry that is PTX.
const PTX: u16 = 1;
/// Bits of an entry's flags that say how it is compressed.
const LZ4: u64 = 0x2000;
const ZSTD: u64 = 0x8000;

/// Where in an entry's head things lie.
const COMPRESSED_BYTES: usize = 16;
const FLAGS: usize = 40;
const WHOLE_BYTES: usize = 56;

fn number<const BYTES: usize>(data: &[u8], at: usize) -> Option<[u8; BYTES]> {
    data.get(at..at + BYTES)?.try_into().ok()
}

/// The container that the structure at an address refers to, or that is there itself.
pub fn find(place: *const u8) -> Result<Option<*const u8>, Code> {
    let magic: u32 = get(place.cast())?;
    if magic == CONTAINER {
        return Ok(Some(place));
    }
    if magic != WRAPPER {
        return Ok(None);
    }
    let data: u64 = get(place.wrapping_add(8).cast())?;
    Ok(Some(data as *const u8))
}

/// The PTX in a container.
pub fn ptx(container: *const u8) -> Result<String, Code> {
    let head = bytes(container, 16)?;
    let field = |at: usize| number::<2>(head, at).map(u16::from_le_bytes).ok_or(code::INVALID_IMAGE);
    let size = number::<8>(head, 8).map(u64::from_le_bytes).ok_or(code::INVALID_IMAGE)?;
    let begin = usize::from(field(6)?);
    let mut rest = &bytes(container, begin + size as usize)?[begin..];
    while !rest.is_empty() {
        let parts = (|| {
            let kind = u16::from_le_bytes(number::<2>(rest, 0)?);
            let head = u32::from_le_bytes(number::<4>(rest, 4)?) as usize;
            let size = u64::from_le_bytes(number::<8>(rest, 8)?) as usize;
            Some((kind, rest.get(..head)?, rest.get(head..head + size)?))
        })();
        let (kind, head, data) = parts.ok_or(code::INVALID_IMAGE)?;
        if kind == PTX {
            return decompressed(head, data).ok_or(code::INVALID_IMAGE);
        }
        rest = &rest[head.len() + data.len()..];
    }
    Err(code::NO_BINARY)
}

fn decompressed(head: &[u8], data: &[u8]) -> Option<String> {
    let flags = number::<8>(head, FLAGS).map_or(0, u64::from_le_bytes);
    let whole = if flags & ZSTD != 0 {
        let used = u32::from_le_bytes(number::<4>(head, COMPRESSED_BYTES)?) as usize;
        let size = u64::from_le_bytes(number::<8>(head, WHOLE_BYTES)?) as usize;
        let mut whole = Vec::with_capacity(size);
        let mut decoder = ruzstd::decoding::StreamingDecoder::new(data.get(..used)?).ok()?;
        std::io::Read::read_to_end(&mut decoder, &mut whole).ok()?;
        whole
    } else if flags & LZ4 != 0 {
        super::complain("a container is compressed with LZ4; compile with --compress-mode=size");
        return None;
    } else {
        data.to_vec()
    };
    let end = whole.iter().position(|&byte| byte == 0).unwrap_or(whole.len());
    String::from_utf8(whole[..end].to_vec()).ok()
}
