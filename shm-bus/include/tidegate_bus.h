// libtidegate_bus: rings of memory between gateway processes and one backend process on the same Linux machine.
// Made by cbindgen from shm-bus/c/src; do not edit. What each byte of the memory means: shm-bus/README.md.
//
//     cargo build --profile fast -p tidegate-bus-c
//     cc -Ishm-bus/include program.c -Ltarget/fast -ltidegate_bus -Wl,-rpath,$PWD/target/fast
//
// Every function that returns int32_t returns one of the codes below: 0 and above are outcomes, below 0 are errors, of
// which tidegate_bus_message() tells in a sentence what was found, what was expected and what to do.
// A handle may move between threads, but only one thread may be in a call on it at a time. Different handles have
// nothing to do with each other. Nothing here waits but tidegate_bus_wait. No panic leaves the library: what would be
// one is TIDEGATE_BUS_PANIC, and that handle can only be freed then.

#ifndef TIDEGATE_BUS_H
#define TIDEGATE_BUS_H

#include <stddef.h>
#include <stdint.h>

// Done; for those that give a record or room: there is one.
#define TIDEGATE_BUS_OK 0

// Nothing there now. An outcome.
#define TIDEGATE_BUS_EMPTY 1

// No room until the reader of that ring gives some back: keep the message, try again later. An outcome.
#define TIDEGATE_BUS_FULL 2

// The producer went past this tap: it goes on at what is published now. An outcome, and only of taps.
#define TIDEGATE_BUS_LAPPED 3

// A null pointer, a text that is no UTF-8, kind 0, an option out of bounds.
#define TIDEGATE_BUS_INVALID -1

// A system call failed, or the file system has no room.
#define TIDEGATE_BUS_SYSTEM -2

// The directory or a file of it is not what it should be, or of another layout.
#define TIDEGATE_BUS_UNFIT -3

// Another process is the backend of this bus; the message names its pid.
#define TIDEGATE_BUS_TAKEN -4

// The other side takes records to mean something else (tidegate_bus_gateway_options.protocol).
#define TIDEGATE_BUS_PROTOCOL -5

// A record larger than this ring takes, full or empty.
#define TIDEGATE_BUS_TOO_LARGE -6

// No such gateway or shard (any more): what was meant for it is for nobody.
#define TIDEGATE_BUS_GONE -7

// One gateway cannot be served and was told so; its process ends. The others go on: call again.
#define TIDEGATE_BUS_REFUSED -8

// This ring is unusable: its peer's cursor or a record in it cannot be. A gateway ends and makes a fresh segment.
#define TIDEGATE_BUS_CONDEMNED -9

// What this process holds is no longer what stands at its names on the bus: end, and start again.
#define TIDEGATE_BUS_DISPLACED -10

// A claim is open that this call does not fit to, or none is.
#define TIDEGATE_BUS_CLAIM -11

// A bug in the library. Nothing but freeing is possible with this handle any more.
#define TIDEGATE_BUS_PANIC -12

// A process's part in a bus: its one backend, or a gateway.
struct tidegate_bus;

// An observer of a bus.
struct tidegate_bus_tap;

// How a gateway's segment is made. All zeros: the defaults. Its memory is twice `ring_bytes`, allocated at once.
struct tidegate_bus_gateway_options {
    // Size of each of the two rings, a power of two from 4096 to 2^30; 0: 4 MiB.
    size_t ring_bytes;
    // Largest record with its 48 bytes of header, a multiple of 8, at most a quarter of ring_bytes; 0: 256 KiB, or
    // that quarter.
    size_t record_bytes_max;
    // What records mean, by the users' own count: a backend of another number refuses the segment.
    uint32_t protocol;
    // Name and version of the program, for the sentences of those who refuse it; NULL: the library's.
    const char *build;
};

// What stands before the payload. The bus reads `kind` (not 0) and `partition` (0); the rest is the users' own.
struct tidegate_bus_header {
    // What the payload means, by the users' own table; never 0.
    uint16_t kind;
    // Free for the kind to use.
    uint16_t flags;
    // Reserved: 0.
    uint16_t partition;
    // The connection: shard,
    uint16_t shard;
    // slot,
    uint32_t slot;
    // and which tenant of the slot.
    uint32_t generation;
    // Free for the kind to use.
    uint64_t trace;
    // Who it is about: the low 64 bits,
    uint64_t principal_low;
    // and the high ones. Both 0: nobody.
    uint64_t principal_high;
};

// A record that was copied out of a ring, and where from.
struct tidegate_bus_record {
    // Its header.
    struct tidegate_bus_header header;
    // The gateway whose ring it was in: its instance id, never 0.
    uint64_t gateway;
    // Where the record ends, in bytes since the ring was made: what tidegate_bus_release takes.
    uint64_t position;
    // The payload, 8-byte aligned: the library's copy, which stands until the next call that reads on this handle.
    const uint8_t *payload;
    // Its size in bytes.
    size_t payload_bytes;
    // The shard of the gateway whose ring it was in.
    uint16_t ring;
    // 1: from the ring that leads to the gateway; 0: from the one that leads to the backend.
    uint8_t to_gateway;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// What the last call of this thread that returned an error found, expected, and says to do: UTF-8, never NULL. It is
// the library's, and stands until this thread's next error.
const char *tidegate_bus_message(void);

// Becomes the one backend of the bus in this directory, which is made if it is not there. Gateways attach and go by
// themselves, inside tidegate_bus_next and tidegate_bus_wait; a segment whose gateway died is removed once everything
// it sent was released. `protocol` is what this backend takes records to mean, by the users' own count (Tidegate's
// gateways: BUS_PROTOCOL in protocol/src/bus.rs).
//
// `*bus` is the caller's, to be given to tidegate_bus_free; NULL on an error.
//
// The caller promises:
// `bus_dir` is a text that ends with a zero byte; `bus` may be written.
int32_t tidegate_bus_take_backend(const char *bus_dir,
                                  uint32_t protocol,
                                  struct tidegate_bus **bus);

// Makes a gateway's segment with one shard on the bus in this directory, which is made if it is not there. One thread,
// one pair of rings: several threads make several. `options` NULL: the defaults.
//
// `*bus` is the caller's, to be given to tidegate_bus_free; NULL on an error.
//
// The caller promises:
// `bus_dir` is a text that ends with a zero byte, and so is `options->build` if it is not NULL; `bus` may be written.
int32_t tidegate_bus_make_gateway(const char *bus_dir,
                                  const struct tidegate_bus_gateway_options *options,
                                  struct tidegate_bus **bus);

// Gives up the role and everything that the handle lent. NULL is fine. A gateway's segment stays for the backend to
// drain; a backend's gateways stay, and wait for the next.
//
// The caller promises:
// `bus` is NULL or a handle that is not used any more.
void tidegate_bus_free(struct tidegate_bus *bus);

// Copies the next record out, from any ring that leads here: TIDEGATE_BUS_OK with `*record` filled, or
// TIDEGATE_BUS_EMPTY. `record->payload` stands until the next tidegate_bus_next on this handle. What was read and not
// released is read again by the next process in this role: do with it what you do, commit, then release.
//
// TIDEGATE_BUS_REFUSED (backend): one gateway cannot be served; the others go on. TIDEGATE_BUS_CONDEMNED (gateway),
// TIDEGATE_BUS_DISPLACED: end, and start again.
//
// The caller promises:
// `bus` is a live handle, `record` may be written.
int32_t tidegate_bus_next(struct tidegate_bus *bus,
                          struct tidegate_bus_record *record);

// Sleeps until a record may be there, but no longer than `timeout_ms`, of which at most 100 count (a producer may have
// died between its record and the bell), or until a signal came. TIDEGATE_BUS_OK: look. TIDEGATE_BUS_EMPTY: nothing.
// Returns at once while records are there that were not read.
//
// The caller promises:
// `bus` is a live handle.
int32_t tidegate_bus_wait(struct tidegate_bus *bus,
                          uint32_t timeout_ms);

// Gives the room up to `position` (a record's) of that ring back to its producer. What was released is never read
// again, by anybody.
//
// The caller promises:
// `bus` is a live handle.
int32_t tidegate_bus_release(struct tidegate_bus *bus,
                             uint64_t gateway,
                             uint16_t ring,
                             uint64_t position);

// Gives the room of everything that was read back, on all rings.
//
// The caller promises:
// `bus` is a live handle.
int32_t tidegate_bus_release_all(struct tidegate_bus *bus);

// Copies one record into the ring that leads away from here, to (backend) or from (gateway) that gateway's shard.
// Nobody is woken: see tidegate_bus_ring. TIDEGATE_BUS_FULL: nothing was written.
//
// The caller promises:
// `bus` is a live handle; `header` may be read, and so may `payload_bytes` bytes at `payload` (0: it may be NULL).
int32_t tidegate_bus_send(struct tidegate_bus *bus,
                          uint64_t gateway,
                          uint16_t ring,
                          const struct tidegate_bus_header *header,
                          const uint8_t *payload,
                          size_t payload_bytes);

// Claims room for one record with this much payload, to be written in place: `*payload`, 8-byte aligned, with whatever
// an earlier record left there. Write all of it, then tidegate_bus_commit, which makes it seen, or
// tidegate_bus_abandon. One claim a ring; until then other calls that write to that ring are refused.
// TIDEGATE_BUS_FULL: `*payload` is NULL.
//
// The caller promises:
// `bus` is a live handle; `payload` may be written. The room is not touched after commit, abandon or free.
int32_t tidegate_bus_claim(struct tidegate_bus *bus,
                           uint64_t gateway,
                           uint16_t ring,
                           size_t payload_bytes,
                           uint8_t **payload);

// Publishes the record that was claimed last on that ring. Nobody is woken: see tidegate_bus_ring.
//
// The caller promises:
// `bus` is a live handle; `header` may be read.
int32_t tidegate_bus_commit(struct tidegate_bus *bus,
                            uint64_t gateway,
                            uint16_t ring,
                            const struct tidegate_bus_header *header);

// Gives a claim up: it never was. Without one: nothing.
//
// The caller promises:
// `bus` is a live handle.
int32_t tidegate_bus_abandon(struct tidegate_bus *bus, uint64_t gateway, uint16_t ring);

// Wakes whoever reads what was written to that ring, if they sleep: once after a batch. Costs a system call only then.
//
// The caller promises:
// `bus` is a live handle.
int32_t tidegate_bus_ring(struct tidegate_bus *bus,
                          uint64_t gateway,
                          uint16_t ring);

// Room that is there for certain in the ring that leads away: records whose 48 bytes of header and payloads, each
// rounded up to 8, add up to at most this can all be claimed now.
//
// The caller promises:
// `bus` is a live handle; `bytes` may be written.
int32_t tidegate_bus_room(struct tidegate_bus *bus,
                          uint64_t gateway,
                          uint16_t ring,
                          size_t *bytes);

// The gateways that are served now (backend), or the own one (gateway): writes up to `capacity` instance ids, and how
// many there are to `*count`. Each shard of a gateway has a ring of its own, numbered from 0.
//
// The caller promises:
// `bus` is a live handle; `capacity` ids may be written at `gateways` (0: it may be NULL), and `count` may be written.
int32_t tidegate_bus_gateways(struct tidegate_bus *bus,
                              uint64_t *gateways,
                              size_t capacity,
                              size_t *count);

// Which backend serves: the instance id of the one that attached last to this gateway's segment, or a backend's own;
// 0: none yet. A change means another backend. TIDEGATE_BUS_EMPTY: it is dead (records wait for the next).
//
// The caller promises:
// `bus` is a live handle; `instance` may be written.
int32_t tidegate_bus_backend(struct tidegate_bus *bus,
                             uint64_t *instance);

// Lets everybody in whose admission ticket is below `frontier` (backend). It only moves forward. Needed only where
// an earlier backend of this bus controlled admission.
//
// The caller promises:
// `bus` is a live handle.
int32_t tidegate_bus_admit(struct tidegate_bus *bus,
                           uint64_t frontier);

// From here on a file of the bus that somebody cuts short under this process ends it with one sentence on the standard
// error and exit code 74, instead of a bare SIGBUS. Installs a handler of SIGBUS; for main, once.
int32_t tidegate_bus_exit_on_truncation(void);

// Observes the bus in this directory, which must be there: all that is published from now on, in every ring of every
// gateway, in the order of each ring. A gateway that comes is found within 100 ms; what it published before counts as
// missed. The memory is mapped read-only: nobody on the bus notices.
//
// `*tap` is the caller's, to be given to tidegate_bus_tap_free; NULL on an error.
//
// The caller promises:
// `bus_dir` is a text that ends with a zero byte; `tap` may be written.
int32_t tidegate_bus_tap_open(const char *bus_dir,
                              struct tidegate_bus_tap **tap);

// Copies the next record out: TIDEGATE_BUS_OK with `*record` filled, TIDEGATE_BUS_EMPTY, or TIDEGATE_BUS_LAPPED with
// the ring named in `*record` and no payload: the producer went past, and the tap goes on at what is published now.
// Only whole records are shown. Never waits: sleep a little when it is empty.
//
// The caller promises:
// `tap` is a live handle, `record` may be written.
int32_t tidegate_bus_tap_next(struct tidegate_bus_tap *tap,
                              struct tidegate_bus_record *record);

// Bytes of records (with headers and padding) that went by unseen, in all.
//
// The caller promises:
// `tap` is a live handle, `bytes` may be written.
int32_t tidegate_bus_tap_missed(struct tidegate_bus_tap *tap, uint64_t *bytes);

// Gives the handle back. NULL is fine.
//
// The caller promises:
// `tap` is NULL or a handle that is not used any more.
void tidegate_bus_tap_free(struct tidegate_bus_tap *tap);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TIDEGATE_BUS_H */
