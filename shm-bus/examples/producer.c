// A gateway in C: makes a segment, sends lines from the standard input, each in place, and prints what comes back.
// The other side: consumer.c, or any backend.
//
//     cc -Wall -Wextra -Werror -Ishm-bus/include shm-bus/examples/producer.c -Ltarget/fast -ltidegate_bus
//        -Wl,-rpath,$PWD/target/fast -o producer
//     printf 'hello\nagain\n' | ./producer /dev/shm/my-bus
#include "tidegate_bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, tidegate_bus_message());
    return EXIT_FAILURE;
}

// Prints what came back so far, and gives the room back.
static int take_answers(struct tidegate_bus *bus, uint32_t *answered) {
    struct tidegate_bus_record record;
    int code;
    while ((code = tidegate_bus_next(bus, &record)) == TIDEGATE_BUS_OK) {
        ++*answered;
        printf("slot %u came back: %.*s\n", record.header.slot, (int)record.payload_bytes,
               (const char *)record.payload);
    }
    return code < 0 ? code : tidegate_bus_release_all(bus);
}

// Claims room for a line, writes it in place, publishes it, rings. A full ring waits for nothing but the backend, and
// the backend may be waiting for room to answer: so answers are taken meanwhile.
static int send_line(struct tidegate_bus *bus, uint64_t gateway, const char *line, size_t bytes, uint32_t slot,
                     uint32_t *answered) {
    uint8_t *room;
    int code;
    while ((code = tidegate_bus_claim(bus, gateway, 0, bytes, &room)) == TIDEGATE_BUS_FULL)
        if ((code = take_answers(bus, answered)) < 0 || (code = tidegate_bus_wait(bus, 1)) < 0)
            return code;
    if (code < 0)
        return code;
    memcpy(room, line, bytes);
    struct tidegate_bus_header header = {.kind = 1, .slot = slot};
    code = tidegate_bus_commit(bus, gateway, 0, &header);
    return code < 0 ? code : tidegate_bus_ring(bus, gateway, 0);
}

int main(int count, char **arguments) {
    if (count < 2) {
        fprintf(stderr, "usage: producer BUS_DIRECTORY\n");
        return EXIT_FAILURE;
    }
    struct tidegate_bus_gateway_options options = {.ring_bytes = 65536, .build = "producer.c 1.0"};
    struct tidegate_bus *bus;
    if (tidegate_bus_make_gateway(arguments[1], &options, &bus) < 0)
        return failed("make a segment");
    uint64_t gateway;
    size_t gateways;
    int code = tidegate_bus_gateways(bus, &gateway, 1, &gateways);

    char line[1024];
    uint32_t sent = 0, answered = 0;
    while (code >= 0 && fgets(line, sizeof line, stdin) != NULL)
        code = send_line(bus, gateway, line, strcspn(line, "\n"), sent++, &answered);
    while (code >= 0 && (code = take_answers(bus, &answered)) >= 0 && answered < sent)
        code = tidegate_bus_wait(bus, 100);
    if (code < 0)
        failed("speak with the backend");
    tidegate_bus_free(bus);
    return code < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
