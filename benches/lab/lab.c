// What the laboratory needs beside servers: clients that ask at a constant rate, and an origin that takes its time. lab.py builds it.
//
//   lab ask PORT SEQUENCE RATE CONNECTIONS OUT
//       Asks for /object/N, N taken one after the other from SEQUENCE (32-bit numbers); question i is due i/RATE seconds after the
//       start, whatever became of those before it (open loop); RATE 0: as fast as answers come. Prints the start (seconds since 1970), and at the
//       end how late questions were sent. Writes 8 bytes for each to OUT: time from due to answered in microseconds (32 bits; all ones: no good
//       answer), the cache's number from X-Cache (16), whether that said it was a hit (8), 1 if it was asked again after a connection
//       that had idled was found closed (8).
//   lab origin PORT DELAY_MS BODY LOG
//       Answers everything with BODY bytes after DELAY_MS; writes 8 bytes for each question but /healthz to LOG when told to end: milliseconds
//       since its start in SECONDS, which it prints (32 bits), and N (32).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 4096, EVENTS = 512 };
static const uint32_t NONE = UINT32_MAX;
static const uint64_t PATIENCE = 5000000000ull; // Nanoseconds to an answer.

struct connection {
    int fd, length, is_waiting, is_used, is_again, has_head, closes;
    uint32_t question;
    long body; // Bytes of it that are still to come.
    uint64_t sent;
    char head[HEAD];
};

struct record {
    uint32_t took;
    uint16_t cache;
    uint8_t is_hit, is_again;
};

static int epoll;
static volatile sig_atomic_t is_over;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void end(int signal) {
    (void)signal;
    is_over = 1;
}

static uint64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static struct sockaddr_in address(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(int fd, void *data) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

// ---- clients

static int port, count_idle;
static uint32_t *sequence, asked, answered, questions;
static struct connection *connections, **idle;
static struct record *records;
static uint64_t start;
static double rate;

static uint64_t due(uint32_t question) {
    return start + (uint64_t)(question / rate * 1e9);
}

static void open_connection(struct connection *it) {
    struct sockaddr_in to = address(port);
    int one = 1;
    it->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (it->fd < 0) fail("socket");
    setsockopt(it->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    // On loopback this is done at once, or refused.
    if (connect(it->fd, (void *)&to, sizeof to) && errno != EINPROGRESS) {
        close(it->fd);
        it->fd = -1;
        return;
    }
    it->is_used = it->is_waiting = 0;
    watch(it->fd, it);
}

static void close_connection(struct connection *it) {
    if (it->fd >= 0) close(it->fd);
    it->fd = -1;
    it->is_waiting = 0;
}

static void record(uint32_t question, struct record what) {
    records[question] = what;
    answered++;
}

static void ask(struct connection *it, uint32_t question, int is_again) {
    char text[128];
    int length = snprintf(text, sizeof text, "GET /object/%u HTTP/1.1\r\nHost: lab.example\r\n\r\n", sequence[question]);
    if (it->fd < 0) open_connection(it);
    it->question = question;
    it->length = it->has_head = 0;
    it->is_again = is_again;
    it->is_waiting = 1;
    it->sent = now(CLOCK_MONOTONIC);
    for (int tries = 0; it->fd >= 0; tries++) {
        if (send(it->fd, text, length, MSG_NOSIGNAL) == length) return;
        if (errno == EAGAIN) { // Not connected yet.
            usleep(50);
            if (tries < 1000) continue;
        }
        close_connection(it);
        if (tries) break;
        open_connection(it);
    }
    record(question, (struct record){.took = NONE, .is_again = 1});
    close_connection(it);
    idle[count_idle++] = it;
}

// A connection is at its end. A client asks once more when it had idled, and nothing came: RFC 9112, 9.3.1.
static void lost(struct connection *it) {
    int was_waiting = it->is_waiting, may_ask_again = it->is_used && !it->length && !it->has_head && !it->is_again;
    uint32_t question = it->question;
    close_connection(it);
    if (!was_waiting) return;
    if (may_ask_again) {
        ask(it, question, 1);
    } else {
        record(question, (struct record){.took = NONE});
        idle[count_idle++] = it;
    }
}

static void finish(struct connection *it) {
    struct record what = {.took = NONE, .is_again = it->is_again};
    char *cache = strcasestr(it->head, "\r\nX-Cache: c");
    if (cache) {
        char *rest;
        what.cache = strtol(cache + 12, &rest, 10);
        what.is_hit = atoi(rest) > 0;
    }
    if (!memcmp(it->head + 9, "200", 3)) {
        uint64_t from = rate > 0 ? due(it->question) : it->sent;
        what.took = (now(CLOCK_MONOTONIC) - from) / 1000;
    }
    record(it->question, what);
    it->is_waiting = 0;
    it->is_used = 1;
    if (it->closes) close_connection(it);
    idle[count_idle++] = it;
}

static void hear(struct connection *it) {
    static char sink[1 << 16];
    for (;;) {
        char *to = it->has_head ? sink : it->head + it->length;
        ssize_t got = recv(it->fd, to, it->has_head ? (int)sizeof sink : HEAD - 1 - it->length, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0 || !it->is_waiting) return lost(it);
        if (it->has_head) {
            it->body -= got;
        } else {
            it->length += got;
            it->head[it->length] = 0;
            char *end = strstr(it->head, "\r\n\r\n");
            if (!end && it->length == HEAD - 1) return lost(it);
            if (!end) continue;
            end[2] = 0;
            char *length = strcasestr(it->head, "\r\nContent-Length:");
            it->closes = !length || strcasestr(it->head, "\r\nConnection: close");
            it->body = (length ? atol(length + 17) : 0) - (it->head + it->length - (end + 4));
            it->has_head = 1;
        }
        if (it->body <= 0) return finish(it);
    }
}

static void give_up_on_silent(int count) {
    uint64_t time = now(CLOCK_MONOTONIC);
    for (int at = 0; at < count; at++) {
        struct connection *it = &connections[at];
        if (!it->is_waiting || time - it->sent < PATIENCE) continue;
        it->is_used = 0;
        lost(it);
    }
}

static void run_clients(char **args) {
    port = atoi(args[0]);
    rate = atof(args[2]);
    int count = atoi(args[3]);
    FILE *file = fopen(args[1], "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail(args[1]);
    questions = ftell(file) / 4;
    rewind(file);
    sequence = malloc(questions * 4);
    records = calloc(questions, sizeof *records);
    if (fread(sequence, 4, questions, file) != questions) fail(args[1]);
    connections = calloc(count, sizeof *connections);
    idle = calloc(count, sizeof *idle);
    for (int at = count - 1; at >= 0; at--) {
        connections[at].fd = -1;
        open_connection(idle[count_idle++] = &connections[at]);
    }
    printf("%.3f\n", now(CLOCK_REALTIME) / 1e9);
    fflush(stdout);
    start = now(CLOCK_MONOTONIC);
    uint64_t checked = start, latest = 0, late = 0;
    while (answered < questions && !is_over) {
        uint64_t time = now(CLOCK_MONOTONIC), next = time + 20000000;
        while (asked < questions && count_idle) {
            if (rate > 0 && (next = due(asked)) > time) break;
            uint64_t behind = rate > 0 ? time - due(asked) : 0;
            latest = behind > latest ? behind : latest;
            late += behind > 20000000;
            ask(idle[--count_idle], asked++, 0);
        }
        if (time - checked > 100000000) {
            checked = time;
            give_up_on_silent(count);
        }
        struct epoll_event events[EVENTS];
        // Without an idle connection only an answer helps; a millisecond more is no matter.
        int wait = !count_idle || next > time + 20000000 ? 20 : next <= time ? 0 : (next - time) / 1000000 + 1;
        int ready = epoll_wait(epoll, events, EVENTS, wait);
        for (int at = 0; at < ready; at++) {
            struct connection *it = events[at].data.ptr;
            if (it->fd >= 0) hear(it);
        }
    }
    file = fopen(args[4], "wb");
    if (!file || fwrite(records, sizeof *records, questions, file) != questions || fclose(file)) fail(args[4]);
    printf("{\"asked\": %u, \"late\": %lu, \"latest_ms\": %.1f}\n", asked, late, latest / 1e6);
}

// ---- origin

struct owed {
    uint64_t due;
    struct connection *to;
};

static struct owed *owed; // A ring: all wait equally long, so the first to come is the first to go.
static uint32_t (*noted)[2], noted_count, noted_room;
static char *answer;
static size_t answer_length;

static void pay(struct connection *it, const char *text, size_t length) {
    // One answer fits into the socket's buffer; whoever does not read it is let go.
    if (it->fd >= 0 && send(it->fd, text, length, MSG_NOSIGNAL) != (ssize_t)length) close_connection(it);
    if (it->fd >= 0 && it->closes) close_connection(it);
}

static void note(uint32_t number) {
    if (noted_count == noted_room) noted = realloc(noted, (noted_room = noted_room ? noted_room * 2 : 1 << 16) * sizeof *noted);
    noted[noted_count][0] = (now(CLOCK_MONOTONIC) - start) / 1000000;
    noted[noted_count++][1] = number;
}

static void run_origin(char **args) {
    enum { ROOM = 1 << 18 };
    static const char FINE[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    struct sockaddr_in at = address(atoi(args[0]));
    uint64_t delay = atol(args[1]) * 1000000ull;
    size_t body = atol(args[2]);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) fail("listen");
    watch(listener, NULL);
    answer = malloc(body + 256);
    answer_length = sprintf(answer, "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: %zu\r\n\r\n", body);
    memset(answer + answer_length, 'x', body);
    answer_length += body;
    owed = malloc(ROOM * sizeof *owed);
    size_t first = 0, next = 0;
    printf("%.3f\n", now(CLOCK_REALTIME) / 1e9);
    fflush(stdout);
    start = now(CLOCK_MONOTONIC);
    while (!is_over) {
        uint64_t time = now(CLOCK_MONOTONIC);
        for (; first < next && owed[first % ROOM].due <= time; first++) {
            owed[first % ROOM].to->is_waiting = 0;
            pay(owed[first % ROOM].to, answer, answer_length);
        }
        struct epoll_event events[EVENTS];
        int wait = first < next ? (owed[first % ROOM].due - time) / 1000000 + 1 : 100;
        int ready = epoll_wait(epoll, events, EVENTS, wait);
        for (int each = 0; each < ready; each++) {
            struct connection *it = events[each].data.ptr;
            if (!it) {
                int fd;
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    it = calloc(1, sizeof *it); // Kept to the end: an answer may still be owed to it.
                    it->fd = fd;
                    watch(fd, it);
                }
                continue;
            }
            if (it->fd < 0) continue;
            ssize_t got = recv(it->fd, it->head + it->length, HEAD - 1 - it->length, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0 || it->is_waiting) {
                close_connection(it);
                continue;
            }
            it->head[it->length += got] = 0;
            if (!strstr(it->head, "\r\n\r\n")) continue;
            it->closes = strcasestr(it->head, "\r\nConnection: close") != NULL;
            it->length = 0;
            char *number = strstr(it->head, "/object/");
            if (!number) {
                pay(it, FINE, sizeof FINE - 1);
                continue;
            }
            note(strtoul(number + 8, NULL, 10));
            it->is_waiting = 1;
            owed[next++ % ROOM] = (struct owed){.due = now(CLOCK_MONOTONIC) + delay, .to = it};
        }
    }
    FILE *file = fopen(args[3], "wb");
    if (!file || fwrite(noted, sizeof *noted, noted_count, file) != noted_count || fclose(file)) fail(args[3]);
}

int main(int count, char **args) {
    struct rlimit limit = {65536, 65536};
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGTERM, end);
    epoll = epoll_create1(0);
    if (count == 7 && !strcmp(args[1], "ask")) {
        run_clients(args + 2);
    } else if (count == 6 && !strcmp(args[1], "origin")) {
        run_origin(args + 2);
    } else {
        fprintf(stderr, "usage: lab ask PORT SEQUENCE RATE CONNECTIONS OUT | lab origin PORT DELAY_MS BODY LOG\n");
        return 2;
    }
    return 0;
}
