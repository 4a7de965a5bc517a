//! Graphs: work of a stream that is kept, and done again and again.

use std::{
    ffi::{c_char, c_int, c_uint, c_ulonglong, c_void},
    sync::Arc,
    thread,
};

use super::{
    Answer, code, functions, put,
    state::{Capture, Handle, LEGACY, State, state},
};

/// Modes of `cuStreamBeginCapture`: what other calls are forbidden to, all threads, this thread, none.
const GLOBAL: c_uint = 0;
const THREAD_LOCAL: c_uint = 1;

impl State {
    /// A call that might depend on work which isn't done, as it is being captured: allocations, and what waits.
    pub fn outside_of_captures(&mut self) -> Answer {
        let this = thread::current().id();
        let captures = self.streams.values_mut().filter_map(|stream| stream.capture.as_mut());
        for capture in captures {
            if capture.mode == GLOBAL || (capture.mode == THREAD_LOCAL && capture.thread == this) {
                capture.invalid = true;
                return Err(code::CAPTURE_UNSUPPORTED);
            }
        }
        Ok(())
    }

    /// Memory isn't managed within a capture.
    pub fn not_capturing(&mut self, stream: Handle) -> Answer {
        if LEGACY.contains(&stream) {
            self.legacy()?;
        }
        match &mut self.streams.get_mut(&stream).ok_or(code::INVALID_HANDLE)?.capture {
            None => Ok(()),
            Some(capture) => {
                capture.invalid = true;
                Err(code::CAPTURE_UNSUPPORTED)
            }
        }
    }

    fn status(&mut self, stream: Handle) -> Result<c_uint, super::Code> {
        if LEGACY.contains(&stream) {
            self.legacy()?;
        }
        let stream = self.streams.get(&stream).ok_or(code::INVALID_HANDLE)?;
        Ok(stream.capture.as_ref().map_or(0, |capture| if capture.invalid { 2 } else { 1 }))
    }

    fn instantiate(&mut self, graph: Handle) -> Result<Handle, super::Code> {
        let work = self.graphs.get(&graph).ok_or(code::INVALID_HANDLE)?.clone();
        let handle = self.handle();
        self.ready_graphs.insert(handle, Arc::new(work));
        Ok(handle)
    }
}

functions! {
    fn cuStreamBeginCapture_v2(stream: Handle, mode: c_uint) {
        if LEGACY.contains(&stream) {
            return Err(code::CAPTURE_IMPLICIT);
        }
        let mut state = state();
        state.works()?;
        let number = state.handle();
        let stream = state.streams.get_mut(&stream).ok_or(code::INVALID_HANDLE)?;
        if stream.capture.is_some() {
            return Err(code::INVALID_VALUE);
        }
        let thread = thread::current().id();
        stream.capture = Some(Capture { number, work: Vec::new(), mode, thread, invalid: false });
        Ok(())
    }

    fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) {
        let mut state = state();
        state.works()?;
        let found = state.streams.get_mut(&stream).ok_or(code::INVALID_HANDLE)?;
        let capture = found.capture.take().ok_or(code::CAPTURE_UNMATCHED)?;
        if capture.invalid {
            put(graph, 0)?;
            return Err(code::CAPTURE_INVALIDATED);
        }
        let handle = state.handle();
        state.graphs.insert(handle, capture.work);
        put(graph, handle)
    }

    fn cuStreamIsCapturing(stream: Handle, status: *mut c_uint) {
        let now = state().status(stream)?;
        put(status, now)
    }

    fn cuThreadExchangeStreamCaptureMode(_mode: *mut c_uint) {
        Ok(())
    }

    fn cuGraphInstantiateWithFlags(ready: *mut Handle, graph: Handle, _flags: c_ulonglong) {
        let handle = state().instantiate(graph)?;
        put(ready, handle)
    }

    fn cuGraphInstantiate(ready: *mut Handle, graph: Handle, _node: *mut Handle, _log: *mut c_char, _size: usize) {
        let handle = state().instantiate(graph)?;
        put(ready, handle)
    }

    fn cuGraphUpload(ready: Handle, _stream: Handle) {
        if state().ready_graphs.contains_key(&ready) { Ok(()) } else { Err(code::INVALID_HANDLE) }
    }

    fn cuGraphLaunch(ready: Handle, stream: Handle) {
        let mut state = state();
        state.works()?;
        // A graph within a graph is not known here.
        state.not_capturing(stream)?;
        let work = state.ready_graphs.get(&ready).ok_or(code::INVALID_HANDLE)?.clone();
        work.iter().try_for_each(|work| state.perform(work, true))
    }

    fn cuGraphExecDestroy(ready: Handle) {
        state().ready_graphs.remove(&ready).map(|_| ()).ok_or(code::INVALID_HANDLE)
    }

    fn cuGraphDestroy(graph: Handle) {
        state().graphs.remove(&graph).map(|_| ()).ok_or(code::INVALID_HANDLE)
    }

    fn cuGraphGetNodes(graph: Handle, nodes: *mut Handle, count: *mut usize) {
        let state = state();
        let work = state.graphs.get(&graph).ok_or(code::INVALID_HANDLE)?;
        if !nodes.is_null() {
            let room = super::get(count)?;
            for index in 0..work.len().min(room) {
                put(nodes.wrapping_add(index), graph + index + 1)?;
            }
        }
        put(count, work.len())
    }

    fn cuGraphDebugDotPrint(_graph: Handle, _path: *const c_char, _flags: c_uint) {
        Ok(())
    }

    fn cuLaunchHostFunc(_stream: Handle, _function: *const c_void, _data: *const c_void) {
        Err(code::NOT_SUPPORTED)
    }

    fn cuStreamGetPriority(_stream: Handle, priority: *mut c_int) {
        put(priority, 0)
    }
}
