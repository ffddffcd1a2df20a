//! Descriptors of cuDNN's graph interface: created, given attributes, finalised.

use crate::error::{Error, Result};
use cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type, cudnnBackendDescriptor_t,
    cudnnBackendDescriptorType_t as Kind, cudnnBackendHeurMode_t, cudnnConvolutionMode_t, cudnnDataType_t,
    cudnnHandle_t, cudnnPointwiseMode_t, cudnnStatus_t,
};
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

/// An error that names the function and says why, unless it succeeded.
pub(super) fn check(call: &'static str, status: cudnnStatus_t) -> Result<()> {
    if status == cudnnStatus_t::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    let mut why = [0; 512];
    // SAFETY: writes at most so many characters, the last a zero.
    unsafe { sys::cudnnGetLastErrorString(why.as_mut_ptr(), why.len()) };
    // SAFETY: it ends with a zero, as said above.
    let why = unsafe { CStr::from_ptr(why.as_ptr()) }.to_string_lossy().into_owned();
    let message = if why.is_empty() { format!("{status:?}") } else { format!("{status:?}: {why}") };
    Err(Error::Call { call, message })
}

/// What an attribute may be of: laid out as cuDNN reads it.
///
/// # Safety
/// `TYPE` is the library's name of this very layout.
pub(super) unsafe trait Attribute {
    const TYPE: Type;
}

macro_rules! attributes {
    ($($rust:ty => $name:ident),* $(,)?) => {
        $(
            // SAFETY: the library's header says that values of this name have this layout.
            unsafe impl Attribute for $rust {
                const TYPE: Type = Type::$name;
            }
        )*
    };
}

attributes! {
    i64 => CUDNN_TYPE_INT64,
    f32 => CUDNN_TYPE_FLOAT,
    bool => CUDNN_TYPE_BOOLEAN,
    u8 => CUDNN_TYPE_CHAR,
    cudnnDataType_t => CUDNN_TYPE_DATA_TYPE,
    cudnnConvolutionMode_t => CUDNN_TYPE_CONVOLUTION_MODE,
    cudnnPointwiseMode_t => CUDNN_TYPE_POINTWISE_MODE,
    cudnnBackendHeurMode_t => CUDNN_TYPE_HEUR_MODE,
    cudnnHandle_t => CUDNN_TYPE_HANDLE,
    *mut c_void => CUDNN_TYPE_VOID_PTR,
}

/// A descriptor that is destroyed when it is dropped.
#[derive(Debug)]
pub(super) struct Descriptor(cudnnBackendDescriptor_t);

// SAFETY: a handle of the library, used by one thread at a time.
unsafe impl Send for Descriptor {}
// SAFETY: it is only changed while one function makes it; afterwards it is read.
unsafe impl Sync for Descriptor {}

impl Descriptor {
    /// One without attributes. The library is open.
    pub(super) fn new(kind: Kind) -> Result<Self> {
        let mut descriptor = null_mut();
        // SAFETY: writes one handle.
        check("cudnnBackendCreateDescriptor", unsafe { sys::cudnnBackendCreateDescriptor(kind, &raw mut descriptor) })?;
        Ok(Self(descriptor))
    }

    /// Sets an attribute.
    pub(super) fn set<T: Attribute>(&self, name: Name, values: &[T]) -> Result<()> {
        // SAFETY: as many values as said, of the layout that `T` says.
        unsafe { self.set_raw(name, T::TYPE, values.len(), values.as_ptr().cast()) }
    }

    /// Sets an attribute that is another descriptor, or several; they outlive `self`.
    pub(super) fn link(&self, name: Name, others: &[&Self]) -> Result<()> {
        let handles: Vec<cudnnBackendDescriptor_t> = others.iter().map(|other| other.0).collect();
        // SAFETY: as many handles as said.
        unsafe { self.set_raw(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, handles.len(), handles.as_ptr().cast()) }
    }

    /// # Safety
    /// There are `count` values of this type.
    unsafe fn set_raw(&self, name: Name, of: Type, count: usize, values: *const c_void) -> Result<()> {
        // SAFETY: as the caller says; they are copied.
        let status = unsafe { sys::cudnnBackendSetAttribute(self.0, name, of, count as i64, values) };
        check("cudnnBackendSetAttribute", status).map_err(|error| named(error, name))
    }

    /// Checks its attributes, and makes it ready for use.
    pub(super) fn finalize(&self) -> Result<()> {
        // SAFETY: it lives.
        check("cudnnBackendFinalize", unsafe { sys::cudnnBackendFinalize(self.0) })
    }

    /// Up to so many numbers of an attribute.
    pub(super) fn numbers(&self, name: Name, most: usize) -> Result<Vec<i64>> {
        let mut numbers = vec![0i64; most];
        // SAFETY: there is space for so many.
        let count = unsafe { self.get_raw(name, Type::CUDNN_TYPE_INT64, most, numbers.as_mut_ptr().cast())? };
        numbers.truncate(count);
        Ok(numbers)
    }

    /// The notes of an engine, as numbers: a newer library may have more of them than there are names.
    pub(super) fn notes(&self, name: Name, of: Type) -> Result<Vec<u32>> {
        let mut notes = vec![0u32; 64];
        // SAFETY: there is space for so many; a note is an `int` in C.
        let count = unsafe { self.get_raw(name, of, 64, notes.as_mut_ptr().cast())? };
        notes.truncate(count);
        Ok(notes)
    }

    /// How many values an attribute has.
    pub(super) fn count(&self, name: Name, of: Type) -> Result<usize> {
        let mut count = 0;
        // SAFETY: asks for no value; writes one number.
        let status = unsafe { sys::cudnnBackendGetAttribute(self.0, name, of, 0, &raw mut count, null_mut()) };
        check("cudnnBackendGetAttribute", status).map_err(|error| named(error, name))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// The descriptors that an attribute holds, of the kind, at most so many.
    pub(super) fn children(&self, name: Name, kind: Kind, most: usize) -> Result<Vec<Self>> {
        let mut children = (0..most).map(|_| Self::new(kind)).collect::<Result<Vec<_>>>()?;
        let mut handles: Vec<cudnnBackendDescriptor_t> = children.iter().map(|child| child.0).collect();
        // SAFETY: so many descriptors of this kind are there to be written to.
        let count =
            unsafe { self.get_raw(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, most, handles.as_mut_ptr().cast())? };
        children.truncate(count);
        Ok(children)
    }

    /// # Safety
    /// There is space for `most` values of this type.
    unsafe fn get_raw(&self, name: Name, of: Type, most: usize, values: *mut c_void) -> Result<usize> {
        let mut count = 0;
        // SAFETY: as the caller says.
        let status = unsafe { sys::cudnnBackendGetAttribute(self.0, name, of, most as i64, &raw mut count, values) };
        check("cudnnBackendGetAttribute", status).map_err(|error| named(error, name))?;
        Ok(usize::try_from(count).unwrap_or(0).min(most))
    }

    /// Runs a plan.
    ///
    /// # Safety
    /// `self` is a plan and `pack` a variant pack whose pointers are what the plan's tensors say.
    pub(super) unsafe fn execute(&self, handle: cudnnHandle_t, pack: &Self) -> Result<()> {
        // SAFETY: as the caller says.
        check("cudnnBackendExecute", unsafe { sys::cudnnBackendExecute(handle, self.0, pack.0) })
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: created in `new`.
        _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

/// The error with the attribute that it is about.
fn named(error: Error, name: Name) -> Error {
    match error {
        Error::Call { call, message } => Error::Call { call, message: format!("{name:?}: {message}") },
        other => other,
    }
}
