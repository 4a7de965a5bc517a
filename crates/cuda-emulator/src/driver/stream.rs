//! Streams, events and launches of the driver.

use std::ffi::{c_int, c_uint, c_void};

use super::{
    Answer, bytes, code, functions, get, put,
    state::{Handle, LEGACY, State, Stream, state},
    work::{Call, Work},
};

/// A bit of `cuStreamCreate`: the stream doesn't wait for the legacy stream.
const NON_BLOCKING: c_uint = 1;

impl State {
    /// Waiting for a stream, which a capturing one doesn't allow.
    pub fn wait(&mut self, stream: Handle) -> Answer {
        self.works()?;
        if LEGACY.contains(&stream) {
            self.legacy()?;
        }
        let found = self.streams.get_mut(&stream).ok_or(code::INVALID_HANDLE)?;
        if let Some(capture) = &mut found.capture {
            capture.invalid = true;
            return Err(code::CAPTURE_UNSUPPORTED);
        }
        Ok(())
    }

    /// A launch whose parameters are named one by one.
    pub fn call(&mut self, stream: Handle, mut call: Call, parameters: *const *const c_void) -> Answer {
        let kernel = self.check(&call)?;
        let mut all = vec![0; kernel.parameters.last().map_or(0, |last| last.offset + last.bytes)];
        for (index, parameter) in kernel.parameters.iter().enumerate() {
            let place = get(parameters.wrapping_add(index))?;
            let value = bytes(place.cast(), parameter.bytes)?;
            all[parameter.offset..parameter.offset + parameter.bytes].copy_from_slice(value);
        }
        call.parameters = all;
        self.submit(stream, Work::Launch(call))
    }
}

/// How `cuLaunchKernel` is told parameters as one piece: 1 and where they are, 2 and how many bytes they have, 0.
fn piece(extra: *const *const c_void) -> Result<Vec<u8>, super::Code> {
    let (mut place, mut size) = (std::ptr::null(), 0);
    let mut index = 0;
    loop {
        match get(extra.wrapping_add(index))? as usize {
            0 => return Ok(bytes(place, size)?.to_vec()),
            1 => place = get(extra.wrapping_add(index + 1))?.cast(),
            2 => size = get(get(extra.wrapping_add(index + 1))?.cast())?,
            _ => return Err(code::INVALID_VALUE),
        }
        index += 2;
    }
}

functions! {
    fn cuStreamCreate(stream: *mut Handle, flags: c_uint) {
        let mut state = state();
        let handle = state.handle();
        state.streams.insert(handle, Stream { non_blocking: flags & NON_BLOCKING != 0, capture: None });
        put(stream, handle)
    }

    fn cuStreamCreateWithPriority(stream: *mut Handle, flags: c_uint, _priority: c_int) {
        match cuStreamCreate(stream, flags) {
            0 => Ok(()),
            code => Err(code),
        }
    }

    fn cuStreamDestroy_v2(stream: Handle) {
        state().streams.remove(&stream).map(|_| ()).ok_or(code::INVALID_HANDLE)
    }

    fn cuStreamSynchronize(stream: Handle) {
        state().wait(stream)
    }

    fn cuStreamQuery(stream: Handle) {
        state().wait(stream)
    }

    fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: c_uint) {
        let mut state = state();
        state.works()?;
        let event = *state.events.get(&event).ok_or(code::INVALID_HANDLE)?;
        let found = state.streams.get_mut(&stream).ok_or(code::INVALID_HANDLE)?;
        match (&mut found.capture, event.captured) {
            (Some(capture), Some((_, of))) if capture.number == of => Ok(()),
            // An event that never came is waited for by nobody.
            (_, None) if event.at.is_none() => Ok(()),
            // A graph can't wait for what is no part of it.
            (Some(capture), _) => {
                capture.invalid = true;
                Err(code::CAPTURE_ISOLATION)
            }
            // A real driver would take the other stream into the capture.
            (None, Some((of, _))) if of != stream => Err(code::CAPTURE_UNSUPPORTED),
            (None, _) => Ok(()),
        }
    }

    fn cuEventCreate(event: *mut Handle, _flags: c_uint) {
        let mut state = state();
        let handle = state.handle();
        state.events.insert(handle, super::state::Event::default());
        put(event, handle)
    }

    fn cuEventDestroy_v2(event: Handle) {
        state().events.remove(&event).map(|_| ()).ok_or(code::INVALID_HANDLE)
    }

    fn cuEventRecord(event: Handle, stream: Handle) {
        let mut state = state();
        state.works()?;
        if LEGACY.contains(&stream) {
            state.legacy()?;
        }
        let capture = &state.streams.get(&stream).ok_or(code::INVALID_HANDLE)?.capture;
        let captured = capture.as_ref().map(|capture| (stream, capture.number));
        let event = state.events.get_mut(&event).ok_or(code::INVALID_HANDLE)?;
        event.captured = captured;
        event.at = Some(std::time::Instant::now());
        Ok(())
    }

    fn cuEventRecordWithFlags(event: Handle, stream: Handle, _flags: c_uint) {
        match cuEventRecord(event, stream) {
            0 => Ok(()),
            code => Err(code),
        }
    }

    fn cuEventQuery(event: Handle) {
        let state = state();
        state.works()?;
        let event = state.events.get(&event).ok_or(code::INVALID_HANDLE)?;
        if event.captured.is_some() { Err(code::CAPTURED_EVENT) } else { Ok(()) }
    }

    fn cuEventSynchronize(event: Handle) {
        match cuEventQuery(event) {
            0 => Ok(()),
            code => Err(code),
        }
    }

    fn cuEventElapsedTime(milliseconds: *mut f32, begin: Handle, end: Handle) {
        let state = state();
        let at = |event: Handle| state.events.get(&event).and_then(|event| event.at);
        let (begin, end) = (at(begin).ok_or(code::INVALID_HANDLE)?, at(end).ok_or(code::INVALID_HANDLE)?);
        put(milliseconds, end.saturating_duration_since(begin).as_secs_f32() * 1000.0)
    }

    fn cuEventElapsedTime_v2(milliseconds: *mut f32, begin: Handle, end: Handle) {
        match cuEventElapsedTime(milliseconds, begin, end) {
            0 => Ok(()),
            code => Err(code),
        }
    }

    fn cuLaunchKernel(
        function: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        dynamic: c_uint,
        stream: Handle,
        parameters: *const *const c_void,
        extra: *const *const c_void,
    ) {
        let mut call = Call {
            function,
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            dynamic: dynamic as usize,
            parameters: Vec::new(),
        };
        let mut state = state();
        state.works()?;
        if parameters.is_null() && !extra.is_null() {
            state.check(&call)?;
            call.parameters = piece(extra)?;
            return state.submit(stream, Work::Launch(call));
        }
        state.call(stream, call, parameters)
    }
}
