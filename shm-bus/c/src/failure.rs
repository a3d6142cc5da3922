//! Codes, the last message, and the guard that every entry runs in.

use std::{
    any::Any,
    cell::RefCell,
    ffi::{CStr, CString, c_char},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use shm_bus::{AttachError, BusError, ClaimError, Damage, Displaced, SeatError, SegmentError};

/// Done; for those that give a record or room: there is one.
pub const TIDEGATE_BUS_OK: i32 = 0;
/// Nothing there now. An outcome.
pub const TIDEGATE_BUS_EMPTY: i32 = 1;
/// No room until the reader of that ring gives some back: keep the message, try again later. An outcome.
pub const TIDEGATE_BUS_FULL: i32 = 2;
/// The producer went past this tap: it goes on at what is published now. An outcome, and only of taps.
pub const TIDEGATE_BUS_LAPPED: i32 = 3;
/// A null pointer, a text that is no UTF-8, kind 0, an option out of bounds.
pub const TIDEGATE_BUS_INVALID: i32 = -1;
/// A system call failed, or the file system has no room.
pub const TIDEGATE_BUS_SYSTEM: i32 = -2;
/// The directory or a file of it is not what it should be, or of another layout.
pub const TIDEGATE_BUS_UNFIT: i32 = -3;
/// Another process is the backend of this bus; the message names its pid.
pub const TIDEGATE_BUS_TAKEN: i32 = -4;
/// The other side takes records to mean something else (tidegate_bus_gateway_options.protocol).
pub const TIDEGATE_BUS_PROTOCOL: i32 = -5;
/// A record larger than this ring takes, full or empty.
pub const TIDEGATE_BUS_TOO_LARGE: i32 = -6;
/// No such gateway or shard (any more): what was meant for it is for nobody.
pub const TIDEGATE_BUS_GONE: i32 = -7;
/// One gateway cannot be served and was told so; its process ends. The others go on: call again.
pub const TIDEGATE_BUS_REFUSED: i32 = -8;
/// This ring is unusable: its peer's cursor or a record in it cannot be. A gateway ends and makes a fresh segment.
pub const TIDEGATE_BUS_CONDEMNED: i32 = -9;
/// What this process holds is no longer what stands at its names on the bus: end, and start again.
pub const TIDEGATE_BUS_DISPLACED: i32 = -10;
/// A claim is open that this call does not fit to, or none is.
pub const TIDEGATE_BUS_CLAIM: i32 = -11;
/// A bug in the library. Nothing but freeing is possible with this handle any more.
pub const TIDEGATE_BUS_PANIC: i32 = -12;

/// A code and its sentence.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

pub(crate) type Outcome = Result<i32, Failure>;

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        let code = match &error {
            BusError::Unfit { .. } | BusError::OtherLayout { .. } => TIDEGATE_BUS_UNFIT,
            _ => TIDEGATE_BUS_SYSTEM,
        };
        Self::new(code, error.to_string())
    }
}

impl From<SeatError> for Failure {
    fn from(error: SeatError) -> Self {
        match error {
            SeatError::Bus(error) => error.into(),
            other => Self::new(TIDEGATE_BUS_TAKEN, other.to_string()),
        }
    }
}

impl From<SegmentError> for Failure {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Bus(error) => error.into(),
            SegmentError::Protocol { .. } => Self::new(TIDEGATE_BUS_PROTOCOL, error.to_string()),
            other => Self::new(TIDEGATE_BUS_INVALID, other.to_string()),
        }
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        Self::new(TIDEGATE_BUS_REFUSED, error.to_string())
    }
}

impl From<ClaimError> for Failure {
    fn from(error: ClaimError) -> Self {
        let code = match error {
            ClaimError::TooLarge { .. } => TIDEGATE_BUS_TOO_LARGE,
            _ => TIDEGATE_BUS_CONDEMNED,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Displaced> for Failure {
    fn from(displaced: Displaced) -> Self {
        Self::new(TIDEGATE_BUS_DISPLACED, displaced.to_string())
    }
}

impl From<Damage> for Failure {
    fn from(damage: Damage) -> Self {
        Self::new(
            TIDEGATE_BUS_CONDEMNED,
            format!("the ring is condemned: {damage}"),
        )
    }
}

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::new(CString::default());
}

/// What the last call of this thread that returned an error found, expected, and says to do: UTF-8, never NULL. It is
/// the library's, and stands until this thread's next error.
#[unsafe(no_mangle)]
pub extern "C" fn tidegate_bus_message() -> *const c_char {
    MESSAGE
        .try_with(|message| message.borrow().as_ptr())
        .unwrap_or(c"this thread is ending".as_ptr())
}

fn say(message: &str) {
    let text: Vec<u8> = message.bytes().filter(|byte| *byte != 0).collect();
    let text = CString::new(text).unwrap_or_default();
    // A thread that is ending has nobody to tell.
    let _ = MESSAGE.try_with(|message| message.replace(text));
}

/// Runs the body of an entry: an error leaves its message, a panic becomes a code.
pub(crate) fn entry(body: impl FnOnce() -> Outcome) -> i32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => {
            say(&failure.message);
            failure.code
        }
        Err(panic) => {
            say(&format!("a bug in libtidegate_bus: {}", words(&*panic)));
            TIDEGATE_BUS_PANIC
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it panicked")
}

/// A handle that may have broken in an earlier call.
pub(crate) trait Handle {
    fn broken(&mut self) -> &mut bool;
}

/// Runs a call on a handle. One that panics half-way leaves it broken.
///
/// # Safety
/// `handle` is null, or came from this library, was not freed, and no other call on it is under way.
pub(crate) unsafe fn on<H: Handle>(handle: *mut H, body: impl FnOnce(&mut H) -> Outcome) -> i32 {
    entry(|| {
        // SAFETY: by this function's contract: live and ours alone while this runs.
        let handle = unsafe { handle.as_mut() }.ok_or_else(|| null("the handle"))?;
        if std::mem::replace(handle.broken(), true) {
            let said = "this handle broke in an earlier call: free it and begin anew";
            return Err(Failure::new(TIDEGATE_BUS_PANIC, said));
        }
        let outcome = body(handle);
        *handle.broken() = false;
        outcome
    })
}

pub(crate) fn null(what: &str) -> Failure {
    Failure::new(TIDEGATE_BUS_INVALID, format!("{what} is NULL"))
}

/// A text of C.
///
/// # Safety
/// `text` is null, or ends with a zero byte and stays as it is while the result is used.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: by this function's contract.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str()
        .map_err(|_| Failure::new(TIDEGATE_BUS_INVALID, format!("{what} is not UTF-8")))
}

/// The directory of a bus.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn directory(bus_dir: *const c_char) -> Result<PathBuf, Failure> {
    // SAFETY: by this function's contract.
    unsafe { text(bus_dir, "bus_dir") }.map(PathBuf::from)
}

/// Where a result goes.
///
/// # Safety
/// `place` is null, or may be written and is not read elsewhere meanwhile.
pub(crate) unsafe fn place<'a, T>(place: *mut T, what: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: by this function's contract.
    unsafe { place.as_mut() }.ok_or_else(|| null(what))
}
