//! Those functions of cuRAND that a program calls that never draws a number.

use std::ffi::{c_int, c_ulonglong};

use super::{functions, put, state::Handle, state::state};

functions! {
    fn curandCreateGenerator(generator: *mut Handle, _kind: c_int) {
        let handle = state().handle();
        put(generator, handle)
    }

    fn curandDestroyGenerator(_generator: Handle) {
        Ok(())
    }

    fn curandSetPseudoRandomGeneratorSeed(_generator: Handle, _seed: c_ulonglong) {
        Ok(())
    }

    fn curandSetStream(_generator: Handle, _stream: Handle) {
        Ok(())
    }
}
