//! What a process that becomes an ordinary user gives up for good: every capability, and the way to a new
//! one.
//!
//! The kernel takes the effective and permitted sets from whoever stops being root, and from nobody else:
//! the inheritable set stays, the bounding set stays, and a daemon that runs with ambient capabilities
//! and is not root hands all of them on, whoever its process becomes. So each set is emptied by name, and
//! looked at afterwards.
#![allow(unsafe_code)]

use crate::child::errno;

/// The version of the structures below (`_LINUX_CAPABILITY_VERSION_3`): two words of 32 capabilities.
const VERSION: u32 = 0x2008_0522;

/// No kernel has a capability of this number or a higher one: the sets have 64 bits.
const CAPABILITIES_MAX: libc::c_ulong = 64;

#[repr(C)]
struct Header {
    version: u32,
    /// 0: the caller.
    pid: i32,
}

/// One half of the three sets of a process.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// As `prctl` takes what it has no use for.
const NONE: libc::c_ulong = 0;

/// In the child, while it still has the daemon's rights: nothing it executes can be given a capability
/// that its user does not have. A daemon without `CAP_SETPCAP` may not say so, which is no failure: the
/// set is a bound of what a program's file can give, and [`give_up`] has the kernel give nothing by files
/// at all. Errors: what the system said; `EPERM` where something is left in the set.
///
/// # Safety
/// Only between `fork` and `_exit`.
pub(crate) unsafe fn empty_bounding_set() -> Result<(), i32> {
    for capability in 0..CAPABILITIES_MAX {
        // SAFETY: changes this process and reads no memory.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, NONE, NONE, NONE) } == 0 {
            continue;
        }
        match errno() {
            // The kernel knows no more.
            libc::EINVAL => break,
            libc::EPERM => return Ok(()),
            other => return Err(other),
        }
    }
    let is_left = |capability: libc::c_ulong| {
        // SAFETY: reads no memory. Below 0: the kernel does not know it.
        unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, NONE, NONE, NONE) == 1 }
    };
    if (0..CAPABILITIES_MAX).any(is_left) { Err(libc::EPERM) } else { Ok(()) }
}

/// In the child, as its user: the other sets, and whatever a program would gain by its file, as `sudo`
/// does. Errors: what the system said; `EPERM` where something remains all the same.
///
/// # Safety
/// Only between `fork` and `_exit`.
pub(crate) unsafe fn give_up() -> Result<(), i32> {
    let mut header = Header { version: VERSION, pid: 0 };
    let none = [Sets::default(); 2];
    let mut left = [Sets { effective: 1, permitted: 1, inheritable: 1 }; 2];
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    let yes: libc::c_ulong = 1;
    // SAFETY: plain system calls; the kernel reads and writes the structures of `VERSION`, which are ours.
    unsafe {
        let is_done = libc::prctl(libc::PR_CAP_AMBIENT, clear, NONE, NONE, NONE) == 0
            && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, NONE, NONE, NONE) == 0
            && libc::syscall(libc::SYS_capset, &raw mut header, none.as_ptr()) == 0
            && libc::syscall(libc::SYS_capget, &raw mut header, left.as_mut_ptr()) == 0;
        if !is_done {
            return Err(errno());
        }
        // The ambient set is never more than the inheritable one.
        let is_bound = libc::prctl(libc::PR_GET_NO_NEW_PRIVS, NONE, NONE, NONE, NONE) == 1;
        if left == none && is_bound { Ok(()) } else { Err(libc::EPERM) }
    }
}
