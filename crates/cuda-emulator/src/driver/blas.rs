//! Those functions of cuBLAS that multiply many matrices at once.

use std::ffi::{c_int, c_longlong, c_void};

use half::{bf16, f16};
use rayon::prelude::*;

use super::{
    Answer, Code, code, complain, functions, get, put,
    state::{Handle, state},
    work::Work,
};
use crate::memory::Memory;

/// Errors of cuBLAS.
const INVALID_VALUE: Code = 7;
const EXECUTION_FAILED: Code = 13;
const NOT_SUPPORTED: Code = 15;

/// A type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F32,
    F64,
    F16,
    Bf16,
}

impl Kind {
    /// The type by its number.
    fn parse(number: c_int) -> Result<Self, Code> {
        match number {
            0 => Ok(Self::F32),
            1 => Ok(Self::F64),
            2 => Ok(Self::F16),
            14 => Ok(Self::Bf16),
            _ => Err(NOT_SUPPORTED),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The type of the sums, and of the two factors that are single numbers, by the number of a way to compute.
    fn of_sums(number: c_int) -> Result<Self, Code> {
        match number {
            64 | 65 => Ok(Self::F16),
            68 | 69 | 74 | 75 | 77 => Ok(Self::F32),
            70 | 71 => Ok(Self::F64),
            _ => Err(NOT_SUPPORTED),
        }
    }

    fn read(self, place: *const c_void) -> Result<f64, Code> {
        Ok(match self {
            Self::F32 => get::<f32>(place.cast())?.into(),
            Self::F64 => get(place.cast())?,
            Self::F16 => f16::from_bits(get(place.cast())?).to_f64(),
            Self::Bf16 => bf16::from_bits(get(place.cast())?).to_f64(),
        })
    }
}

/// A matrix of each of many products, column by column.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    address: u64,
    kind: Kind,
    /// Whether it is taken with rows for columns.
    turned: bool,
    /// From one column to the next.
    leading: usize,
    /// From one product's to the next one's.
    stride: i64,
}

/// Many products of matrices: `C = alpha * A * B + beta * C`.
#[derive(Clone, Debug)]
pub struct Product {
    rows: usize,
    columns: usize,
    inner: usize,
    alpha: f64,
    beta: f64,
    a: Matrix,
    b: Matrix,
    c: Matrix,
    count: usize,
}

/// Memory that threads write different parts of.
#[derive(Clone, Copy)]
struct Target(*mut u8);

// SAFETY: each thread writes its own row of the result.
#[allow(unsafe_code)]
unsafe impl Send for Target {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Target {}

impl Target {
    fn at(self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }
}

impl Matrix {
    /// Where one of the products has its matrix, of `rows` by `columns` after it was turned, if all of it is allocated.
    fn of(&self, memory: &Memory, index: usize, rows: usize, columns: usize) -> Result<*mut u8, Code> {
        let (rows, columns) = if self.turned { (columns, rows) } else { (rows, columns) };
        if rows == 0 || columns == 0 {
            return Ok(std::ptr::null_mut());
        }
        let bytes = ((columns - 1) * self.leading + rows) * self.kind.bytes();
        let offset = (self.stride * index as i64 * self.kind.bytes() as i64) as u64;
        let address = self.address.wrapping_add(offset);
        memory.slice(address, bytes).ok_or_else(|| {
            complain(&format!(
                "a product of matrices: {bytes} bytes at {address:#x} are outside of all that is allocated"
            ));
            code::ILLEGAL_ADDRESS
        })
    }

    /// Numbers of a matrix, `step` apart.
    fn line(&self, place: *const u8, first: usize, step: usize, into: &mut [f64]) {
        let size = self.kind.bytes();
        for (index, value) in into.iter_mut().enumerate() {
            let at = place.wrapping_add((first + index * step) * size);
            *value = self.kind.read(at.cast()).unwrap_or(f64::NAN);
        }
    }

    /// The same as f32.
    fn short_line(&self, place: *const u8, first: usize, step: usize, into: &mut [f32]) {
        let size = self.kind.bytes();
        for (index, value) in into.iter_mut().enumerate() {
            let at = place.wrapping_add((first + index * step) * size);
            *value = match self.kind {
                Kind::F32 => get(at.cast()).unwrap_or(f32::NAN),
                Kind::F16 => f16::from_bits(get(at.cast()).unwrap_or(u16::MAX)).to_f32(),
                Kind::Bf16 => bf16::from_bits(get(at.cast()).unwrap_or(u16::MAX)).to_f32(),
                Kind::F64 => get::<f64>(at.cast()).unwrap_or(f64::NAN) as f32,
            };
        }
    }

    /// Where a row of the left factor begins, and how far its elements are apart.
    fn row(&self, row: usize) -> (usize, usize) {
        if self.turned { (row * self.leading, 1) } else { (row, self.leading) }
    }

    /// The same of a column of the right factor.
    fn column(&self, column: usize) -> (usize, usize) {
        if self.turned { (column, self.leading) } else { (column * self.leading, 1) }
    }
}

/// The sum of products, eight at a time.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

impl Product {
    /// A line for who wants to know what was done.
    pub fn described(&self) -> String {
        let Self { rows, columns, inner, count, a, c, .. } = self;
        format!("cublas {rows}x{columns}x{inner} count {count} {:?} {:?}", a.kind, c.kind)
    }

    /// Does it.
    pub fn perform(&self, memory: &Memory) -> Answer {
        (0..self.count).try_for_each(|index| self.one(memory, index))
    }

    fn one(&self, memory: &Memory, index: usize) -> Answer {
        let a = Target(self.a.of(memory, index, self.rows, self.inner)?);
        let b = Target(self.b.of(memory, index, self.inner, self.columns)?);
        let c = Target(self.c.of(memory, index, self.rows, self.columns)?);
        let double = self.a.kind == Kind::F64;
        let mut long = vec![0.0_f64; if double { self.inner * self.columns } else { 0 }];
        let mut short = vec![0.0_f32; if double { 0 } else { self.inner * self.columns }];
        for column in 0..self.columns {
            let (first, step) = self.b.column(column);
            let part = column * self.inner..(column + 1) * self.inner;
            if double {
                self.b.line(b.at(0), first, step, &mut long[part]);
            } else {
                self.b.short_line(b.at(0), first, step, &mut short[part]);
            }
        }
        (0..self.rows).into_par_iter().with_min_len(16).for_each_init(
            || (vec![0.0_f64; if double { self.inner } else { 0 }], vec![0.0_f32; self.inner]),
            |(long_row, short_row), row| {
                let (first, step) = self.a.row(row);
                if double {
                    self.a.line(a.at(0), first, step, long_row);
                } else {
                    self.a.short_line(a.at(0), first, step, short_row);
                }
                for column in 0..self.columns {
                    let part = column * self.inner..(column + 1) * self.inner;
                    let sum = if double {
                        long_row.iter().zip(&long[part]).map(|(a, b)| a * b).sum()
                    } else {
                        f64::from(dot(short_row, &short[part]))
                    };
                    let place = c.at((column * self.c.leading + row) * self.c.kind.bytes());
                    self.write(place, sum);
                }
            },
        );
        Ok(())
    }

    /// Writes an element of the result. Where `beta` is 0 the old one isn't looked at.
    fn write(&self, place: *mut u8, sum: f64) {
        let old = if self.beta == 0.0 { Ok(0.0) } else { self.c.kind.read(place.cast_const().cast()) };
        let value = self.alpha * sum + self.beta * old.unwrap_or(f64::NAN);
        let _ = match self.c.kind {
            Kind::F32 => put(place.cast(), value as f32),
            Kind::F64 => put(place.cast(), value),
            Kind::F16 => put(place.cast(), f16::from_f32(value as f32)),
            Kind::Bf16 => put(place.cast(), bf16::from_f32(value as f32)),
        };
    }

    /// Does it in the order of a stream.
    fn submit(self, handle: Handle) -> Answer {
        let mut state = state();
        let stream = *state.blas.get(&handle).ok_or(1_u32)?;
        let (a, b, c) = (self.a.kind, self.b.kind, self.c.kind);
        if a != b || (a == Kind::F64) != (c == Kind::F64) {
            complain(&format!("cuBLAS multiplies no {a:?} by {b:?} into {c:?}"));
            return Err(NOT_SUPPORTED);
        }
        let short = |matrix: &Matrix, rows: usize, columns: usize| {
            matrix.leading < if matrix.turned { columns } else { rows }.max(1)
        };
        if short(&self.a, self.rows, self.inner)
            || short(&self.b, self.inner, self.columns)
            || short(&self.c, self.rows, self.columns)
        {
            complain("cuBLAS: a column is longer than from one to the next");
            return Err(INVALID_VALUE);
        }
        state.submit(stream, Work::Multiply(self)).map_err(|code| {
            complain(&format!("cuBLAS: error {code} of the driver"));
            EXECUTION_FAILED
        })
    }
}

fn count(number: c_int) -> Result<usize, Code> {
    usize::try_from(number).map_err(|_| INVALID_VALUE)
}

fn matrix(
    address: u64,
    kind: Kind,
    operation: c_int,
    leading: c_int,
    stride: c_longlong,
) -> Result<Matrix, Code> {
    Ok(Matrix { address, kind, turned: operation != 0, leading: count(leading)?, stride })
}

functions! {
    fn cublasCreate_v2(handle: *mut Handle) {
        let mut state = state();
        let new = state.handle();
        state.blas.insert(new, 0);
        put(handle, new)
    }

    fn cublasDestroy_v2(handle: Handle) {
        state().blas.remove(&handle).map(|_| ()).ok_or(1)
    }

    fn cublasSetStream_v2(handle: Handle, stream: Handle) {
        state().blas.insert(handle, stream).map(|_| ()).ok_or(1)
    }

    fn cublasSetWorkspace_v2(_handle: Handle, _place: u64, _bytes: usize) {
        Ok(())
    }

    fn cublasSetMathMode(_handle: Handle, _mode: c_int) {
        Ok(())
    }

    fn cublasGemmStridedBatchedEx(
        handle: Handle,
        a_operation: c_int,
        b_operation: c_int,
        rows: c_int,
        columns: c_int,
        inner: c_int,
        alpha: *const c_void,
        a: u64,
        a_kind: c_int,
        a_leading: c_int,
        a_stride: c_longlong,
        b: u64,
        b_kind: c_int,
        b_leading: c_int,
        b_stride: c_longlong,
        beta: *const c_void,
        c: u64,
        c_kind: c_int,
        c_leading: c_int,
        c_stride: c_longlong,
        products: c_int,
        sums: c_int,
        _algorithm: c_int,
    ) {
        let sums = Kind::of_sums(sums)?;
        Product {
            rows: count(rows)?,
            columns: count(columns)?,
            inner: count(inner)?,
            alpha: sums.read(alpha)?,
            beta: sums.read(beta)?,
            a: matrix(a, Kind::parse(a_kind)?, a_operation, a_leading, a_stride)?,
            b: matrix(b, Kind::parse(b_kind)?, b_operation, b_leading, b_stride)?,
            c: matrix(c, Kind::parse(c_kind)?, 0, c_leading, c_stride)?,
            count: count(products)?,
        }
        .submit(handle)
    }

    fn cublasSgemmStridedBatched(
        handle: Handle,
        a_operation: c_int,
        b_operation: c_int,
        rows: c_int,
        columns: c_int,
        inner: c_int,
        alpha: *const f32,
        a: u64,
        a_leading: c_int,
        a_stride: c_longlong,
        b: u64,
        b_leading: c_int,
        b_stride: c_longlong,
        beta: *const f32,
        c: u64,
        c_leading: c_int,
        c_stride: c_longlong,
        products: c_int,
    ) {
        Product {
            rows: count(rows)?,
            columns: count(columns)?,
            inner: count(inner)?,
            alpha: get(alpha)?.into(),
            beta: get(beta)?.into(),
            a: matrix(a, Kind::F32, a_operation, a_leading, a_stride)?,
            b: matrix(b, Kind::F32, b_operation, b_leading, b_stride)?,
            c: matrix(c, Kind::F32, 0, c_leading, c_stride)?,
            count: count(products)?,
        }
        .submit(handle)
    }

    fn cublasDgemmStridedBatched(
        handle: Handle,
        a_operation: c_int,
        b_operation: c_int,
        rows: c_int,
        columns: c_int,
        inner: c_int,
        alpha: *const f64,
        a: u64,
        a_leading: c_int,
        a_stride: c_longlong,
        b: u64,
        b_leading: c_int,
        b_stride: c_longlong,
        beta: *const f64,
        c: u64,
        c_leading: c_int,
        c_stride: c_longlong,
        products: c_int,
    ) {
        Product {
            rows: count(rows)?,
            columns: count(columns)?,
            inner: count(inner)?,
            alpha: get(alpha)?,
            beta: get(beta)?,
            a: matrix(a, Kind::F64, a_operation, a_leading, a_stride)?,
            b: matrix(b, Kind::F64, b_operation, b_leading, b_stride)?,
            c: matrix(c, Kind::F64, 0, c_leading, c_stride)?,
            count: count(products)?,
        }
        .submit(handle)
    }
}
