//! Runs programs for CUDA where there is no card.
//!
//! The shared library that this builds stands in for NVIDIA's: it has those functions of the driver, of the runtime, of cuBLAS and
//! of cuRAND that nemoterm's daemon for CUDA calls. The kernels, which such a program carries as PTX, are interpreted. All memory
//! accesses of kernels are checked, which a card doesn't do; so this finds errors as well as it shows that something works.
//!
//! Two variables of the environment are looked at: `NEMOTERM_EMULATOR_LOG` names a file that gets a line for each launch, and with
//! `NEMOTERM_EMULATOR_RACES` it is an error, too, that warps use memory of their block with no barrier between them.
//!
//! It's for tests: it is slower than a processor that does the same without it, by far.

#[allow(missing_docs)] // The functions are those that NVIDIA's manuals describe.
pub mod driver;
pub mod memory;
pub mod ptx;
