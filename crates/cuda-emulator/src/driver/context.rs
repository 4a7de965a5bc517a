//! The card and its context, of which there is one of each.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::{Code, card, code, functions, put, state::Handle, state::state, text};

/// The context. Nothing is kept of which thread uses it.
const CONTEXT: Handle = 0xc0;

/// Sets of eight bits in the form that identifies a card.
type Identity = [u8; 16];

fn name(number: Code, of: usize, place: *mut *const c_char) -> Result<(), Code> {
    let found = code::NAMES.iter().find(|&&(code, ..)| code == number);
    let Some(&(_, driver, _, meaning)) = found else {
        put(place, c"unknown error".as_ptr())?;
        return Ok(());
    };
    put(place, [driver, meaning][of].as_ptr())
}

fn one_card(device: c_int) -> Result<(), Code> {
    if device == 0 { Ok(()) } else { Err(code::INVALID_DEVICE) }
}

functions! {
    fn cuInit(_flags: c_uint) {
        Ok(())
    }

    fn cuDriverGetVersion(version: *mut c_int) {
        put(version, card::VERSION)
    }

    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        one_card(ordinal)?;
        put(device, 0)
    }

    fn cuDeviceGetCount(count: *mut c_int) {
        put(count, 1)
    }

    fn cuDeviceGetName(place: *mut c_char, room: c_int, device: c_int) {
        one_card(device)?;
        let name = card::NAME.bytes().take(usize::try_from(room - 1).unwrap_or(0)).chain([0]);
        for (index, byte) in name.enumerate() {
            put(place.wrapping_add(index), byte as c_char)?;
        }
        Ok(())
    }

    fn cuDeviceGetUuid(identity: *mut Identity, device: c_int) {
        one_card(device)?;
        put(identity, *b"nemoterm-emulate")
    }

    fn cuDeviceGetUuid_v2(identity: *mut Identity, device: c_int) {
        one_card(device)?;
        put(identity, *b"nemoterm-emulate")
    }

    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) {
        one_card(device)?;
        put(bytes, card::MEMORY)
    }

    fn cuDeviceGetAttribute(value: *mut c_int, number: c_int, device: c_int) {
        one_card(device)?;
        put(value, card::attribute(number))
    }

    fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int) {
        one_card(device)?;
        put(context, CONTEXT)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: c_int) {
        one_card(device)
    }

    fn cuDevicePrimaryCtxReset_v2(device: c_int) {
        one_card(device)
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: c_int, _flags: c_uint) {
        one_card(device)
    }

    fn cuDevicePrimaryCtxGetState(device: c_int, flags: *mut c_uint, active: *mut c_int) {
        one_card(device)?;
        put(flags, 0)?;
        put(active, 1)
    }

    fn cuCtxGetCurrent(context: *mut Handle) {
        put(context, CONTEXT)
    }

    fn cuCtxSetCurrent(_context: Handle) {
        Ok(())
    }

    fn cuCtxGetDevice(device: *mut c_int) {
        put(device, 0)
    }

    fn cuCtxDestroy_v2(_context: Handle) {
        Ok(())
    }

    fn cuCtxSynchronize() {
        let mut state = state();
        state.works()?;
        state.outside_of_captures()
    }

    fn cuGetErrorString(number: Code, place: *mut *const c_char) {
        name(number, 1, place)
    }

    fn cuGetErrorName(number: Code, place: *mut *const c_char) {
        name(number, 0, place)
    }

    fn cuGetProcAddress_v2(
        name: *const c_char,
        place: *mut *mut c_void,
        _version: c_int,
        _flags: u64,
        status: *mut c_int,
    ) {
        let name = text(name)?;
        // The newest form of a function that is here.
        for suffix in ["_v3", "_v2", ""] {
            let Ok(symbol) = std::ffi::CString::new(format!("{name}{suffix}")) else { continue };
            // SAFETY: the name ends with a zero; finding where a function is does nothing else.
            #[allow(unsafe_code)]
            let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
            if !found.is_null() {
                if !status.is_null() {
                    put(status, 0)?;
                }
                return put(place, found);
            }
        }
        put(place, std::ptr::null_mut())?;
        if !status.is_null() {
            put(status, 1)?;
        }
        Err(code::NOT_FOUND)
    }
}
