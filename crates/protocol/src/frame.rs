//! Frames: a length of 4 bytes, little-endian, and so many bytes of JSON.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// Most bytes a message may have. A longer one is refused before memory is taken for it.
pub const MAX_FRAME: usize = 256 * 1024;

/// Bytes of the length that stands before each message.
pub const HEADER: usize = 4;

/// Why a frame could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The message is longer than [`MAX_FRAME`].
    #[error("a message of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// The bytes are no message that is known here.
    #[error("not a message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The stream failed or ended inside a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<io::ErrorKind> for FrameError {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Io(kind.into())
    }
}

/// The frame of a message: header and body, to be written in one piece.
///
/// # Errors
/// [`FrameError::TooLong`], and [`FrameError::Malformed`] for a message JSON cannot hold.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message)?;
    let body = frame.len() - HEADER;
    if body > MAX_FRAME {
        return Err(FrameError::TooLong(body));
    }
    #[expect(clippy::cast_possible_truncation, reason = "MAX_FRAME fits 32 bits")]
    frame[..HEADER].copy_from_slice(&(body as u32).to_le_bytes());
    Ok(frame)
}

/// The length of the body that follows a header, in bytes.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn body_length(header: [u8; HEADER]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME { Err(FrameError::TooLong(length)) } else { Ok(length) }
}

/// The message in a body.
///
/// # Errors
/// [`FrameError::Malformed`].
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(body)?)
}

/// Reads one message; `None` where the stream ends between two frames.
///
/// # Errors
/// Every [`FrameError`]; an end inside a frame is [`io::ErrorKind::UnexpectedEof`].
pub fn read<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut header = [0; HEADER];
    let first = loop {
        match stream.read(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[first..])?;
    let mut body = vec![0; body_length(header)?];
    stream.read_exact(&mut body)?;
    decode(&body).map(Some)
}

/// Writes one message.
///
/// # Errors
/// Every [`FrameError`].
pub fn write(stream: &mut impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?)?;
    Ok(stream.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Complete, Context, Request};
    use proptest::prelude::*;

    #[test]
    fn a_message_survives_the_wire() {
        let request = Request::Complete(Box::new(Complete {
            id: 7,
            line: "git commit -m \"naïve\n".to_owned(),
            cursor: 3,
            context: Context { cwd: Some("/tmp/ä".to_owned()), ..Context::default() },
            ..Complete::default()
        }));
        let mut wire = Vec::new();
        write(&mut wire, &request).unwrap();
        write(&mut wire, &Request::Status).unwrap();
        let mut stream = wire.as_slice();
        assert_eq!(read::<Request>(&mut stream).unwrap(), Some(request));
        assert_eq!(read::<Request>(&mut stream).unwrap(), Some(Request::Status));
        assert_eq!(read::<Request>(&mut stream).unwrap(), None);
    }

    #[test]
    fn the_length_is_checked_before_the_body_is_read() {
        let header = (MAX_FRAME as u32 + 1).to_le_bytes();
        assert!(matches!(body_length(header), Err(FrameError::TooLong(_))));
        assert!(matches!(read::<Request>(&mut &header[..]), Err(FrameError::TooLong(_))));
        let long = Request::UseModel { model: "x".repeat(MAX_FRAME) };
        assert!(matches!(encode(&long), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error() {
        let frame = encode(&Request::Status).unwrap();
        for cut in 1..frame.len() {
            assert!(matches!(read::<Request>(&mut &frame[..cut]), Err(FrameError::Io(_))), "cut at {cut}");
        }
    }

    #[test]
    fn a_neighbouring_release_is_understood() {
        let body = br#"{"type":"complete","id":1,"line":"ls","cursor":2,"colour":"blue"}"#;
        let Request::Complete(complete) = decode(body).unwrap() else { panic!("not a complete") };
        assert_eq!((complete.alternatives, complete.budget_ms), (1, 0));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = read::<Request>(&mut bytes.as_slice());
            let _ = decode::<crate::Reply>(&bytes);
        }
    }
}
