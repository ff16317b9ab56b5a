/* config.h - every setting of the program: one table for YAML, flags and help.
 *
 * The table (config_keys) says name, type, range, default, unit and meaning of
 * each key. cluster.yaml, the command line (`--kv-type` is `kv_type`), --help, the
 * dump that ranks receive and the example file's test all come from it.
 */
#ifndef CORDEE_COORDINATOR_CONFIG_H
#define CORDEE_COORDINATOR_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define CONFIG_TEXT 1024 /* longest string value, with its NUL */
#define CONFIG_MAX_NODES 1024
#define CONFIG_MAX_LORA 32

struct config_node {
    char host[256];
    uint64_t memory_bytes; /* 0: as the rank reports */
    int cores;             /* 0: as the rank reports */
    double read_gbs, tflops, link_gbits, link_us; /* 0: not given */
};

struct config_lora {
    char name[128], path[CONFIG_TEXT];
};

struct config {
    char model[CONFIG_TEXT], name[128];
    int64_t workers, threads;
    char http[256], listen[256], connect[256];
    char api_key_file[CONFIG_TEXT];
    char pin[8];
    char precision[16], kv_type[16], isa[16], wire[16];
    int64_t context, batch_rows, slots, kv_memory, queue, in_flight;
    char launcher[16], launcher_exec[CONFIG_TEXT], mpiexec[CONFIG_TEXT];
    char network_interface[64], network_address[256], network_ports[32], network_ucx_tls[64];
    int64_t start_timeout_s, register_timeout_s, host_retry_s, stall_timeout_s, heartbeat_ms, dead_after_ms, fence_after_ms;
    int64_t restart_limit, request_timeout_s, max_connections, max_body_bytes;
    char log_level[16];
    bool prefix_cache, log_json, debug_commands;
    double rates_node_hour, rates_kwh, rates_watts; /* 0: not given */
    struct config_node *nodes; /* owned */
    int n_nodes;
    struct config_lora *lora; /* owned */
    int n_lora;
};

enum config_type { CONFIG_STRING, CONFIG_INT, CONFIG_BYTES, CONFIG_BOOL, CONFIG_NUMBER };

struct config_key {
    const char *name; /* "network.interface": one level of nesting */
    enum config_type type;
    size_t offset, size; /* into struct config; size: of a string's array */
    int64_t least, most; /* INT, BYTES and NUMBER */
    const char *choices; /* STRING: "exact|fast", or NULL */
    const char *initial; /* default, as text */
    const char *argument; /* for --help: "N", "PATH" */
    const char *help;
};
extern const struct config_key config_keys[];
extern const int config_n_keys;

/* All defaults. */
void config_init(struct config *c);
void config_fini(struct config *c);

/* Reads YAML on top of what c holds. origin: for messages ("cluster.yaml").
 * ERR_INVAL with origin, line and column: malformed, unknown key (with the nearest
 * known one), value out of range; also aliases, too deep, duplicate keys.
 * On failure c may hold part of the new values. */
MUST_CHECK err config_parse(struct config *c, const char *yaml, size_t len, const char *origin,
                            struct why *why);
MUST_CHECK err config_load(struct config *c, const char *path, struct why *why);

/* One key from text, as a flag or YAML scalar gives it. */
MUST_CHECK err config_set(struct config *c, const char *key, const char *value, struct why *why);

/* YAML that config_parse() reads back to the same settings; only what differs
 * from the defaults. */
void config_dump(const struct config *c, struct buf *out);

/* "64GiB", "512M", "1.5 GB", "1024" -> bytes. */
MUST_CHECK err config_bytes(const char *text, uint64_t *out, struct why *why);

/* Checks that only make sense on the whole (model given, lists consistent). */
MUST_CHECK err config_check(const struct config *c, struct why *why);

#endif
