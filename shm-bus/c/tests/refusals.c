// What the library refuses, and with which code. Each line of `check` is one promise of tidegate_bus.h.
#include "tidegate_bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(int code, int wanted, const char *words, const char *call, int line) {
    int said = wanted >= 0 || strstr(tidegate_bus_message(), words) != NULL;
    if (code != wanted || !said) {
        fprintf(stderr, "refusals.c:%d: %s: %d, expected %d with \"%s\"; message: %s\n", line, call, code, wanted, words,
                tidegate_bus_message());
        exit(EXIT_FAILURE);
    }
}

#define check(call, wanted, words) expect((call), (wanted), (words), #call, __LINE__)

int main(int count, char **arguments) {
    if (count != 2)
        return EXIT_FAILURE;
    const char *dir = arguments[1];
    struct tidegate_bus *backend = NULL, *second = NULL, *gateway = NULL;
    struct tidegate_bus_tap *tap = NULL;
    struct tidegate_bus_record record, seen;
    struct tidegate_bus_header header = {.kind = 7, .slot = 3, .principal_low = 5, .principal_high = 6};
    struct tidegate_bus_gateway_options options = {.ring_bytes = 5000};
    uint8_t *room;
    uint64_t id = 0, number = 0;
    size_t size = 0;

    // Before anything is there.
    check(tidegate_bus_take_backend(NULL, 0, &backend), TIDEGATE_BUS_INVALID, "bus_dir is NULL");
    check(tidegate_bus_take_backend("\xff", 0, &backend), TIDEGATE_BUS_INVALID, "UTF-8");
    check(tidegate_bus_take_backend("/nowhere/at/all", 0, &backend), TIDEGATE_BUS_SYSTEM, "No such file");
    check(tidegate_bus_tap_open(dir, &tap), TIDEGATE_BUS_SYSTEM, "No such file");
    check(tidegate_bus_next(NULL, &record), TIDEGATE_BUS_INVALID, "handle is NULL");
    tidegate_bus_free(NULL);
    tidegate_bus_tap_free(NULL);

    // One backend; segments of sound sizes only, and of its protocol.
    check(tidegate_bus_take_backend(dir, 2, &backend), TIDEGATE_BUS_OK, "");
    check(tidegate_bus_take_backend(dir, 2, &second), TIDEGATE_BUS_TAKEN, "already holds this bus");
    check(second != NULL, 0, "");
    check(tidegate_bus_make_gateway(dir, &options, &gateway), TIDEGATE_BUS_INVALID, "a power of two");
    options.ring_bytes = 4096;
    check(tidegate_bus_make_gateway(dir, &options, &gateway), TIDEGATE_BUS_PROTOCOL, "speaks bus protocol 2");
    options.protocol = 2;
    check(tidegate_bus_make_gateway(dir, &options, &gateway), TIDEGATE_BUS_OK, "");
    check(tidegate_bus_tap_open(dir, &tap), TIDEGATE_BUS_OK, "");

    // A ring that the library does not know; a claim that is open, and one that is not.
    check(tidegate_bus_gateways(gateway, &id, 1, &size), TIDEGATE_BUS_OK, "");
    check(tidegate_bus_send(gateway, id + 1, 0, &header, NULL, 0), TIDEGATE_BUS_GONE, "has no ring 0");
    check(tidegate_bus_send(gateway, id, 1, &header, NULL, 0), TIDEGATE_BUS_GONE, "has no ring 1");
    check(tidegate_bus_commit(gateway, id, 0, &header), TIDEGATE_BUS_CLAIM, "no claim is open");
    check(tidegate_bus_claim(gateway, id, 0, 977, &room), TIDEGATE_BUS_TOO_LARGE, "at most 976");
    check(tidegate_bus_claim(gateway, id, 0, 5, &room), TIDEGATE_BUS_OK, "");
    check(tidegate_bus_claim(gateway, id, 0, 5, &room), TIDEGATE_BUS_CLAIM, "a claim is open");
    check(tidegate_bus_ring(gateway, id, 0), TIDEGATE_BUS_CLAIM, "a claim is open");
    check(tidegate_bus_abandon(gateway, id, 0), TIDEGATE_BUS_OK, "");
    check(tidegate_bus_claim(gateway, id, 0, 5, &room), TIDEGATE_BUS_OK, "");
    memcpy(room, "hello", 5);
    header.kind = 0;
    check(tidegate_bus_commit(gateway, id, 0, &header), TIDEGATE_BUS_INVALID, "kind is 1 to");
    header.kind = 7;
    check(tidegate_bus_commit(gateway, id, 0, &header), TIDEGATE_BUS_OK, "");
    check(tidegate_bus_send(gateway, id, 0, &header, NULL, 3), TIDEGATE_BUS_INVALID, "payload is NULL");

    // The record, at the backend and at the tap.
    check(tidegate_bus_next(backend, NULL), TIDEGATE_BUS_INVALID, "record is NULL");
    check(tidegate_bus_next(backend, &record), TIDEGATE_BUS_OK, "");
    check(record.gateway == id && record.ring == 0 && record.to_gateway == 0, 1, "");
    check(record.header.kind == 7 && record.header.slot == 3 && record.header.principal_high == 6, 1, "");
    check(record.payload_bytes == 5 && memcmp(record.payload, "hello", 5) == 0, 1, "");
    check(tidegate_bus_tap_next(tap, &seen), TIDEGATE_BUS_OK, "");
    check(seen.position == record.position && memcmp(seen.payload, "hello", 5) == 0, 1, "");
    check(tidegate_bus_tap_next(tap, &seen), TIDEGATE_BUS_EMPTY, "");
    check(tidegate_bus_next(backend, &record), TIDEGATE_BUS_EMPTY, "");
    check(tidegate_bus_wait(backend, 1), TIDEGATE_BUS_EMPTY, "");
    check(tidegate_bus_release_all(backend), TIDEGATE_BUS_OK, "");
    check(tidegate_bus_backend(gateway, &number), TIDEGATE_BUS_OK, "");
    check(tidegate_bus_admit(gateway, 1), TIDEGATE_BUS_INVALID, "only the backend");

    // A full ring is an outcome; a tap that was lapped says so, and how much it missed.
    for (int lap = 0; lap < 3; lap++) {
        int code;
        while ((code = tidegate_bus_send(gateway, id, 0, &header, (const uint8_t *)"01234567", 8)) == TIDEGATE_BUS_OK)
            ;
        check(code, TIDEGATE_BUS_FULL, "");
        while ((code = tidegate_bus_next(backend, &record)) == TIDEGATE_BUS_OK)
            ;
        check(code, TIDEGATE_BUS_EMPTY, "");
        check(tidegate_bus_release_all(backend), TIDEGATE_BUS_OK, "");
    }
    check(tidegate_bus_room(gateway, id, 0, &size), TIDEGATE_BUS_OK, "");
    check(size > 3000, 1, "");
    check(tidegate_bus_tap_next(tap, &seen), TIDEGATE_BUS_LAPPED, "");
    check(tidegate_bus_tap_missed(tap, &number), TIDEGATE_BUS_OK, "");
    check(number > 8192, 1, "");

    // A gateway that went is gone for its backend once all that it sent was released.
    tidegate_bus_free(gateway);
    int code = TIDEGATE_BUS_OK;
    for (int turn = 0; turn < 100 && code != TIDEGATE_BUS_GONE; turn++) {
        tidegate_bus_wait(backend, 10);
        code = tidegate_bus_ring(backend, id, 0);
    }
    check(code, TIDEGATE_BUS_GONE, "any more");
    tidegate_bus_tap_free(tap);
    tidegate_bus_free(backend);
    return EXIT_SUCCESS;
}
