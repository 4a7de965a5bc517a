//! The functions of the driver and of cuBLAS, called as a program calls them.

use std::{
    ffi::{CString, c_void},
    ptr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nemoterm_cuda_emulator::driver::{blas::*, capture::*, context::*, modules::*, stream::*, transfer::*};

/// There is one driver, and what one test captures stops others.
static DRIVER: Mutex<()> = Mutex::new(());

fn driver() -> MutexGuard<'static, ()> {
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

const INVALID_VALUE: u32 = 1;
const NOT_FOUND: u32 = 500;
const CAPTURE_UNSUPPORTED: u32 = 900;
const CAPTURE_INVALIDATED: u32 = 901;
const CAPTURE_ISOLATION: u32 = 905;
const CAPTURE_IMPLICIT: u32 = 906;
const CAPTURED_EVENT: u32 = 907;

const TEXT: &str = ".version 9.0\n.target sm_80\n.address_size 64
    .const .align 4 .u32 by = 3;
    .extern .shared .align 16 .b8 more[];
    .visible .entry multiply(.param .u32 count, .param .u64 numbers) {
        .reg .pred %p<2>; .reg .b32 %r<9>; .reg .b64 %rd<9>;
        ld.param.u32 %r1, [count]; ld.param.u64 %rd1, [numbers];
        mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x; mad.lo.u32 %r5, %r2, %r3, %r4;
        setp.ge.u32 %p1, %r5, %r1; @%p1 ret;
        ld.const.u32 %r6, [by]; mul.wide.u32 %rd2, %r5, 4; add.s64 %rd3, %rd1, %rd2;
        ld.global.u32 %r7, [%rd3]; mul.lo.u32 %r7, %r7, %r6; st.global.u32 [%rd3], %r7; ret;
    }
    .visible .entry share() { .reg .b32 %r<2>; st.shared.u32 [more], 1; ret; }";

fn module() -> usize {
    let (mut module, text) = (0, CString::new(TEXT).unwrap());
    assert_eq!(cuModuleLoadData(&mut module, text.as_ptr().cast()), 0);
    module
}

fn function(module: usize, name: &str) -> usize {
    let (mut function, name) = (0, CString::new(name).unwrap());
    assert_eq!(cuModuleGetFunction(&mut function, module, name.as_ptr()), 0);
    function
}

fn up<T>(data: &[T]) -> u64 {
    let mut address = 0;
    assert_eq!(cuMemAlloc_v2(&mut address, size_of_val(data)), 0);
    assert_eq!(cuMemcpyHtoD_v2(address, data.as_ptr() as usize, size_of_val(data)), 0);
    address
}

fn down<T: Clone + Default>(address: u64, count: usize) -> Vec<T> {
    let mut data = vec![T::default(); count];
    assert_eq!(cuMemcpyDtoH_v2(data.as_mut_ptr() as usize, address, count * size_of::<T>()), 0);
    data
}

/// Launches `multiply` with 32 threads.
fn multiply(function: usize, stream: usize, numbers: u64, count: u32) -> u32 {
    let parameters = [ptr::from_ref(&count).cast::<c_void>(), ptr::from_ref(&numbers).cast()];
    cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, parameters.as_ptr(), ptr::null())
}

#[test]
fn kernels_are_launched_from_modules() {
    let _driver = driver();
    let module = module();
    let kernel = function(module, "multiply");
    let numbers = up(&[1_u32, 2, 3, 4]);
    assert_eq!(multiply(kernel, 0, numbers, 3), 0);
    assert_eq!(down::<u32>(numbers, 4), [3, 6, 9, 4]);
    let (mut by, mut bytes) = (0, 0);
    assert_eq!(cuModuleGetGlobal_v2(&mut by, &mut bytes, module, c"by".as_ptr()), 0);
    assert_eq!((down::<u32>(by, 1), bytes), (vec![3], 4));
    let mut none = 0;
    assert_eq!(cuModuleGetFunction(&mut none, module, c"nothing".as_ptr()), NOT_FOUND);
    assert_eq!(cuMemFree_v2(numbers), 0);
    assert_eq!(cuMemFree_v2(numbers), INVALID_VALUE);
    assert_eq!(cuModuleUnload(module), 0);
}

#[test]
fn launches_have_bounds() {
    let _driver = driver();
    let module = module();
    let kernel = function(module, "share");
    let launch = |threads: u32, dynamic: u32| {
        cuLaunchKernel(kernel, 1, 1, 1, threads, 1, 1, dynamic, 0, ptr::null(), ptr::null())
    };
    assert_eq!(launch(1024, 16), 0);
    assert_eq!(launch(1025, 16), INVALID_VALUE);
    assert_eq!(launch(32, 100 << 10), INVALID_VALUE);
    const MAX_DYNAMIC: i32 = 8;
    assert_eq!(cuFuncSetAttribute(kernel, MAX_DYNAMIC, 164 << 10), INVALID_VALUE);
    assert_eq!(cuFuncSetAttribute(kernel, MAX_DYNAMIC, 100 << 10), 0);
    assert_eq!(launch(32, 100 << 10), 0);
    let mut blocks = 0;
    assert_eq!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, kernel, 256, 40 << 10), 0);
    assert_eq!(blocks, 4);
    assert_eq!(cuModuleUnload(module), 0);
}

#[test]
fn captured_work_is_done_when_the_graph_is_launched() {
    let _driver = driver();
    let module = module();
    let kernel = function(module, "multiply");
    let (numbers, other) = (up(&[1_u32, 2, 3, 4]), up(&[0_u32; 4]));
    let (mut stream, mut graph, mut ready, mut status, mut nodes) = (0, 0, 0, 0, 0);
    assert_eq!(cuStreamCreate(&mut stream, 1), 0);
    assert_eq!(cuStreamBeginCapture_v2(0, 2), CAPTURE_IMPLICIT);
    assert_eq!(cuStreamBeginCapture_v2(stream, 2), 0);
    assert_eq!(multiply(kernel, stream, numbers, 4), 0);
    assert_eq!(cuMemcpyDtoDAsync_v2(other, numbers, 16, stream), 0);
    assert_eq!(cuStreamIsCapturing(stream, &mut status), 0);
    assert_eq!(status, 1);
    assert_eq!(cuStreamEndCapture(stream, &mut graph), 0);
    assert_eq!(down::<u32>(numbers, 4), [1, 2, 3, 4]);
    assert_eq!(cuGraphGetNodes(graph, ptr::null_mut(), &mut nodes), 0);
    assert_eq!(nodes, 2);
    assert_eq!(cuGraphInstantiateWithFlags(&mut ready, graph, 0), 0);
    assert_eq!(cuGraphDestroy(graph), 0);
    for _ in 0..2 {
        assert_eq!(cuGraphLaunch(ready, stream), 0);
    }
    assert_eq!(cuStreamSynchronize(stream), 0);
    assert_eq!(down::<u32>(other, 4), [9, 18, 27, 36]);
    assert_eq!(cuGraphExecDestroy(ready), 0);
    assert_eq!(cuStreamDestroy_v2(stream), 0);
}

#[test]
fn captures_forbid_what_they_cannot_keep() {
    let _driver = driver();
    let (mut stream, mut graph, mut address) = (0, 0, 0);
    assert_eq!(cuStreamCreate(&mut stream, 1), 0);
    let mut forbidden = |call: &mut dyn FnMut(usize) -> u32, mode: u32, code: u32| {
        assert_eq!(cuStreamBeginCapture_v2(stream, mode), 0);
        assert_eq!(call(stream), code);
        let ended = cuStreamEndCapture(stream, &mut graph);
        assert_eq!(ended, if code == 0 { 0 } else { CAPTURE_INVALIDATED });
    };
    const GLOBAL: u32 = 0;
    const RELAXED: u32 = 2;
    forbidden(&mut |stream| cuStreamSynchronize(stream), RELAXED, CAPTURE_UNSUPPORTED);
    forbidden(&mut |stream| cuMemAllocAsync(&mut address, 16, stream), RELAXED, CAPTURE_UNSUPPORTED);
    forbidden(&mut |_| cuMemAlloc_v2(&mut address, 16), GLOBAL, CAPTURE_UNSUPPORTED);
    forbidden(&mut |_| cuMemAlloc_v2(&mut address, 16), RELAXED, 0);
    forbidden(&mut |_| cuCtxSynchronize(), GLOBAL, CAPTURE_UNSUPPORTED);
    // What was before the capture is no part of the graph.
    let mut event = 0;
    assert_eq!(cuEventCreate(&mut event, 0), 0);
    forbidden(&mut |stream| cuStreamWaitEvent(stream, event, 0), RELAXED, 0);
    assert_eq!(cuEventRecord(event, stream), 0);
    forbidden(&mut |stream| cuStreamWaitEvent(stream, event, 0), RELAXED, CAPTURE_ISOLATION);
    forbidden(&mut |stream| cuEventRecord(event, stream) + cuStreamWaitEvent(stream, event, 0), RELAXED, 0);
    assert_eq!(cuEventQuery(event), CAPTURED_EVENT);
    assert_eq!(cuEventDestroy_v2(event), 0);
    // A stream that waits for the legacy one makes that one wait for it.
    assert_eq!(cuStreamDestroy_v2(stream), 0);
    assert_eq!(cuStreamCreate(&mut stream, 0), 0);
    assert_eq!(cuStreamBeginCapture_v2(stream, RELAXED), 0);
    assert_eq!(cuMemsetD8Async(address, 0, 16, 0), CAPTURE_IMPLICIT);
    assert_eq!(cuStreamEndCapture(stream, &mut graph), CAPTURE_INVALIDATED);
    assert_eq!(cuStreamDestroy_v2(stream), 0);
}

#[test]
fn products_of_cublas() {
    let _driver = driver();
    let (rows, columns, inner, count) = (5, 3, 19, 2);
    let number = |seed: usize| (seed * 7919 % 31) as f32 / 8.0 - 2.0;
    let make = |length: usize, seed: usize| (0..length).map(|index| number(index + seed)).collect::<Vec<_>>();
    let half =
        |numbers: &[f32]| numbers.iter().map(|&n| half::bf16::from_f32(n).to_bits()).collect::<Vec<_>>();
    let (a, b) = (make(rows * inner * count, 1), make(inner * columns * count, 500));
    let mut handle = 0;
    assert_eq!(cublasCreate_v2(&mut handle), 0);
    for (short, a_turned, b_turned) in [(false, 0, 0), (false, 1, 0), (true, 1, 0), (true, 0, 1)] {
        let kind = if short { 14 } else { 0 };
        let (a_at, b_at) = if short { (up(&half(&a)), up(&half(&b))) } else { (up(&a), up(&b)) };
        let c_at = up(&vec![1.0_f32; rows * columns * count]);
        let (alpha, beta) = (0.5_f32, 2.0_f32);
        let code = cublasGemmStridedBatchedEx(
            handle,
            a_turned,
            b_turned,
            rows as i32,
            columns as i32,
            inner as i32,
            ptr::from_ref(&alpha).cast(),
            a_at,
            kind,
            if a_turned == 1 { inner } else { rows } as i32,
            (rows * inner) as i64,
            b_at,
            kind,
            if b_turned == 1 { columns } else { inner } as i32,
            (inner * columns) as i64,
            ptr::from_ref(&beta).cast(),
            c_at,
            0,
            rows as i32,
            (rows * columns) as i64,
            count as i32,
            68,
            -1,
        );
        assert_eq!(code, 0);
        let c = down::<f32>(c_at, rows * columns * count);
        for (index, found) in c.into_iter().enumerate() {
            let (product, row, column) = (index / (rows * columns), index % rows, index / rows % columns);
            let sum: f32 = (0..inner)
                .map(|k| {
                    let a_index = if a_turned == 1 { row * inner + k } else { k * rows + row };
                    let b_index = if b_turned == 1 { k * columns + column } else { column * inner + k };
                    a[product * rows * inner + a_index] * b[product * inner * columns + b_index]
                })
                .sum();
            assert!((found - (alpha * sum + beta)).abs() < 1e-3, "{found} {sum} at {row} {column}");
        }
    }
    assert_eq!(cublasDestroy_v2(handle), 0);
}
