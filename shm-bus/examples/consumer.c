// A backend in C: takes the seat, prints what gateways send, answers each record with the same bytes, and gives the
// room back. The same program in Rust: consumer.rs.
//
//     cargo build --profile fast -p tidegate-bus-c
//     cc -Wall -Wextra -Werror -Ishm-bus/include shm-bus/examples/consumer.c -Ltarget/fast -ltidegate_bus
//        -Wl,-rpath,$PWD/target/fast -o consumer
//     ./consumer /dev/shm/my-bus [RECORDS]       ends after so many records; 0 or nothing: never
#include "tidegate_bus.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <threads.h>

static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, tidegate_bus_message());
    return EXIT_FAILURE;
}

int main(int count, char **arguments) {
    if (count < 2) {
        fprintf(stderr, "usage: consumer BUS_DIRECTORY [RECORDS]\n");
        return EXIT_FAILURE;
    }
    unsigned long wanted = count > 2 ? strtoul(arguments[2], NULL, 10) : 0;
    struct tidegate_bus *bus;
    if (tidegate_bus_take_backend(arguments[1], 0, &bus) < 0)
        return failed("take the backend's seat");
    printf("waits on %s\n", arguments[1]);
    fflush(stdout);

    int code = TIDEGATE_BUS_OK;
    for (unsigned long seen = 0; code >= 0 && (wanted == 0 || seen < wanted);) {
        struct tidegate_bus_record record;
        code = tidegate_bus_next(bus, &record);
        if (code == TIDEGATE_BUS_REFUSED) { // one gateway; the others go on
            failed("serve a gateway");
            code = TIDEGATE_BUS_OK;
        } else if (code == TIDEGATE_BUS_OK) {
            seen++;
            printf("gateway %016" PRIx64 ": kind %u, slot %" PRIu32 ", %zu bytes: %.*s\n", record.gateway,
                   record.header.kind, record.header.slot, record.payload_bytes, (int)record.payload_bytes,
                   (const char *)record.payload);
            fflush(stdout);
            // Answer, wake, and only then give the room back: after a crash the record would be read again.
            // Nobody rings when a gateway makes room; one that does not read for a second is dead or stopped.
            for (int tries = 0; tries < 1000; tries++) {
                code = tidegate_bus_send(bus, record.gateway, record.ring, &record.header, record.payload,
                                         record.payload_bytes);
                if (code != TIDEGATE_BUS_FULL)
                    break;
                thrd_sleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            }
            if (code >= 0)
                code = tidegate_bus_ring(bus, record.gateway, record.ring);
            if (code >= 0 || code == TIDEGATE_BUS_GONE) // it died meanwhile: what it sent still counts
                code = tidegate_bus_release(bus, record.gateway, record.ring, record.position);
        } else if (code == TIDEGATE_BUS_EMPTY) {
            code = tidegate_bus_wait(bus, 100);
        }
    }
    if (code < 0)
        failed("serve");
    tidegate_bus_free(bus);
    return code < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
