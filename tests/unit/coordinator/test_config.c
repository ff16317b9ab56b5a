/* Configuration: defaults, YAML with its errors, flags, dump and reload, the example file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/config.h"

static void defaults_are_in_range(void **state)
{
    (void)state;
    struct config c;
    config_init(&c); /* aborts if a default contradicts its own row */
    assert_int_equal(c.workers, 1);
    assert_string_equal(c.kv_type, "f16");
    assert_int_equal(c.max_body_bytes, 32 << 20);
    config_fini(&c);
}

static void yaml_sets_every_kind(void **state)
{
    (void)state;
    static const char text[] = "model: /m.gguf\nworkers: 3\nkv_memory: 2GiB\nlog_json: yes\n"
                               "network:\n  interface: eth0\n  ports: 7000-7100\n"
                               "nodes: [{host: n0, memory: 64GiB, cores: 32, read_gbs: 180}, {host: n1}]\n"
                               "lora: {a: /x, b: /y}\n";
    struct config c;
    struct why why = {0};
    config_init(&c);
    assert_int_equal(config_parse(&c, text, strlen(text), "t", &why), ERR_OK);
    assert_int_equal(c.workers, 3);
    assert_int_equal(c.kv_memory, 2LL << 30);
    assert_true(c.log_json);
    assert_string_equal(c.network_interface, "eth0");
    assert_int_equal(c.n_nodes, 2);
    assert_int_equal(c.nodes[0].memory_bytes, 64LL << 30);
    assert_int_equal(c.n_lora, 2);
    assert_string_equal(c.lora[1].path, "/y");
    config_fini(&c);
}

static void bad_yaml_says_where(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expect;
    } rows[] = {
        {"workers: 0\n", "t:1:1: workers: 0 is outside 1..1024"},
        {"workres: 2\n", "did you mean \"workers\""},
        {"model: a\nthreads: x\n", "t:2:1: threads: \"x\" is not a whole number"},
        {"a: &x [*x]\n", "t:1:"},
        {"network: {\n", "t:2:1"},
        {"model: [a]\n", "t:1:8: expected a plain value"},
        {"model: a\nmodel: b\n", "t:2:1: key \"model\" is given twice"},
        {"kv_type: f64\n", "not one of f32|f16|bf16|q8_0"},
        {"nodes: [{memory: 1GiB}]\n", "a node with `host:`"},
        {"nodes: [{host: \"a;b\"}]\n", "a host name"},
        {"nodes: [{host: a, speed: 1}]\n", "unknown node key"},
        {"- a\n", "t:1:1: expected `key: value` lines"},
        {"kv_memory: 3 parsecs\n", "unknown unit"},
        {"model: a\n---\nmodel: b\n", "one document only"},
        {"network:\n  iface: x\n", "did you mean \"network.interface\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config c;
        struct why why = {0};
        config_init(&c);
        err e = config_parse(&c, rows[i].text, strlen(rows[i].text), "t", &why);
        if (e != ERR_INVAL || !strstr(why.text, rows[i].expect))
            fail_msg("%s -> %d \"%s\", wanted \"%s\"", rows[i].text, e, why.text, rows[i].expect);
        config_fini(&c);
    }
}

static void dump_reads_back(void **state)
{
    (void)state;
    static const char text[] = "model: \"/a b/\\\"quoted\\\"\\n.gguf\"\nworkers: 7\nprecision: exact\n"
                               "network: {ucx_tls: \"tcp,self\", address: 10.0.0.1}\n"
                               "nodes: [{host: n0, link_us: 12.5}]\nlora: {z: /p}\n";
    struct config a, b;
    struct why why = {0};
    struct buf once, twice;
    config_init(&a);
    config_init(&b);
    buf_init(&once);
    buf_init(&twice);
    assert_int_equal(config_parse(&a, text, strlen(text), "a", &why), ERR_OK);
    config_dump(&a, &once);
    if (config_parse(&b, once.data, once.len, "b", &why) != ERR_OK)
        fail_msg("%s\n%s", why.text, once.data);
    config_dump(&b, &twice);
    assert_string_equal(once.data, twice.data);
    assert_string_equal(a.model, b.model);
    assert_string_equal(b.network_ucx_tls, "tcp,self");
    buf_fini(&once);
    buf_fini(&twice);
    config_fini(&a);
    config_fini(&b);
}

/* The example names every key, and each value it shows is the default. */
static void example_is_complete(void **state)
{
    (void)state;
    const char *root = getenv("CORDEE_SOURCE");
    char path[1024];
    struct why why = {0};
    struct config c;
    struct buf text;
    if (!root)
        skip();
    snprintf(path, sizeof path, "%s/cluster.yaml.example", root);
    config_init(&c);
    if (config_load(&c, path, &why) != ERR_OK)
        fail_msg("%s", why.text);
    FILE *f = fopen(path, "r");
    buf_init(&text);
    for (int ch; (ch = getc(f)) != EOF;)
        buf_putc(&text, (char)ch);
    fclose(f);
    for (int i = 0; i < config_n_keys; i++) {
        const char *dot = strchr(config_keys[i].name, '.');
        char key[128];
        snprintf(key, sizeof key, "%s:", dot ? dot + 1 : config_keys[i].name);
        if (!strstr(text.data, key))
            fail_msg("cluster.yaml.example lacks %s", config_keys[i].name);
    }
    buf_fini(&text);
    config_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_in_range), cmocka_unit_test(yaml_sets_every_kind),
        cmocka_unit_test(bad_yaml_says_where),   cmocka_unit_test(dump_reads_back),
        cmocka_unit_test(example_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
