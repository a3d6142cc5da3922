//! One pair of rings: what comes in, what goes out, and a claim that outlives the call that made it.

use std::ptr::NonNull;

use shm_bus::{Claim, Claimed, Consumer, InstanceId, Producer, RecordHeader};

use crate::failure::{
    Failure, Outcome, TIDEGATE_BUS_CLAIM, TIDEGATE_BUS_FULL, TIDEGATE_BUS_INVALID, TIDEGATE_BUS_OK,
};

/// The ends of one shard.
pub(crate) struct Port {
    pub(crate) gateway: InstanceId,
    pub(crate) ring: u16,
    pub(crate) from: Consumer,
    pub(crate) to: Outgoing,
}

/// A producer, and the claim on it that is open.
///
/// Invariant: while `claim` is there it alone touches the producer; every method that would, refuses.
pub(crate) struct Outgoing {
    /// A leaked box's: its place never changes.
    producer: NonNull<Producer>,
    claim: Option<Claim<'static>>,
}

// SAFETY: a Producer may move to another thread, and a claim on it is a borrow of the same; both move together.
unsafe impl Send for Outgoing {}

impl Outgoing {
    pub(crate) fn new(producer: Producer) -> Self {
        Self {
            producer: NonNull::from(Box::leak(Box::new(producer))),
            claim: None,
        }
    }

    /// The producer, while no claim is open.
    fn producer(&mut self) -> Result<&mut Producer, Failure> {
        if self.claim.is_some() {
            return Err(Failure::new(
                TIDEGATE_BUS_CLAIM,
                "a claim is open on this ring: commit or abandon it first",
            ));
        }
        // SAFETY: the pointer is a live box's that this value owns; without a claim nothing else borrows from it, and
        // the borrow that is given out ends before `self` can be used again.
        Ok(unsafe { self.producer.as_mut() })
    }

    /// Claims room; where it is. Nobody sees it before `commit`.
    pub(crate) fn claim(&mut self, payload_bytes: usize) -> Result<Option<*mut u8>, Failure> {
        self.producer()?;
        // SAFETY: as in `producer`; the borrow lives in `claim`, which is dropped before the producer, and `producer`
        // refuses while it is there.
        let producer: &'static mut Producer = unsafe { self.producer.as_mut() };
        match producer.claim(payload_bytes)? {
            Claimed::Full => Ok(None),
            Claimed::Claimed(claim) => {
                let room = self.claim.insert(claim).payload_mut();
                Ok(Some(room.as_mut_ptr()))
            }
        }
    }

    pub(crate) fn commit(&mut self, header: RecordHeader) -> Outcome {
        if header.kind == 0 || header.partition != 0 {
            let said = "a record's kind is 1 to 65535 and its partition 0";
            return Err(Failure::new(TIDEGATE_BUS_INVALID, said));
        }
        let claim = self.claim.take();
        let claim = claim.ok_or_else(|| Failure::new(TIDEGATE_BUS_CLAIM, "no claim is open"))?;
        claim.commit(header);
        Ok(TIDEGATE_BUS_OK)
    }

    pub(crate) fn abandon(&mut self) {
        self.claim = None;
    }

    /// Claim, copy, commit.
    pub(crate) fn send(&mut self, header: RecordHeader, payload: &[u8]) -> Outcome {
        if header.kind == 0 || header.partition != 0 {
            let said = "a record's kind is 1 to 65535 and its partition 0";
            return Err(Failure::new(TIDEGATE_BUS_INVALID, said));
        }
        match self.producer()?.claim(payload.len())? {
            Claimed::Full => Ok(TIDEGATE_BUS_FULL),
            Claimed::Claimed(mut claim) => {
                claim.payload_mut().copy_from_slice(payload);
                claim.commit(header);
                Ok(TIDEGATE_BUS_OK)
            }
        }
    }

    pub(crate) fn ring(&mut self) -> Result<(), Failure> {
        self.producer()?.ring();
        Ok(())
    }

    pub(crate) fn room_bytes(&mut self) -> Result<usize, Failure> {
        Ok(self.producer()?.room_bytes())
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.claim = None;
        // SAFETY: from a box of this value's own, given back once; the claim, its only borrower, is gone.
        drop(unsafe { Box::from_raw(self.producer.as_ptr()) });
    }
}
