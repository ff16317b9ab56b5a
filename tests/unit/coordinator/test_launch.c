/* The launch command: hosts, ranks per host, launcher, environment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/supervise/launch.h"


static void joined(char **v, char *out, size_t size)
{
    size_t at = 0;
    out[0] = 0;
    for (; *v; v++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", at ? " " : "", *v);
}

static void check(const char *yaml, const struct launch_site *site, const char *argv, const char *env)
{
    struct config c;
    struct why why = {0};
    struct launch l;
    const char *hosts[CONFIG_MAX_NODES];
    int n = 0, used;
    static char text[65536];

    config_init(&c);
    assert_int_equal(config_parse(&c, yaml, strlen(yaml), "t", &why), ERR_OK);
    struct launch_epoch epoch = {"10.0.0.9:99", "secret", "cafe", 4, (int)c.workers};
    if (launch_hosts(&c, site, hosts, &n, &why))
        fail_msg("%s", why.text);
    used = n < epoch.workers ? n : epoch.workers;
    if (launch_build(&c, site, &epoch, hosts, used, &l, &why))
        fail_msg("%s", why.text);
    joined(l.argv, text, sizeof text);
    assert_string_equal(text, argv);
    joined(l.env, text, sizeof text);
    if (env && !strstr(text, env))
        fail_msg("no %s in %s", env, text);
    assert_non_null(strstr(text, "CORDEE_KEY=secret CORDEE_EPOCH=4 CORDEE_SERVE=10.0.0.9:99"));
    launch_fini(&l);
    config_fini(&c);
}

static void one_machine(void **state)
{
    (void)state;
    struct launch_site site = {.program = "/bin/cordee"};
    check("model: m\nworkers: 3\n", &site, "mpiexec.hydra -launcher fork -n 4 /bin/cordee engine", NULL);
}

static void rank_0_shares_the_first_node(void **state)
{
    (void)state;
    struct launch_site site = {.program = "/bin/cordee"};
    check("model: m\nworkers: 3\nnodes: [{host: a}, {host: b}, {host: c}]\n", &site,
          "mpiexec.hydra -launcher ssh -hosts a:2,b:1,c:1 -n 4 /bin/cordee engine", NULL);
    check("model: m\nworkers: 5\nnodes: [{host: a}, {host: b}]\n", &site,
          "mpiexec.hydra -launcher ssh -hosts a:3,b:3 -n 6 /bin/cordee engine", NULL);
    /* Nodes beyond the workers are spares. */
    check("model: m\nworkers: 1\nnodes: [{host: a}, {host: b}]\n", &site,
          "mpiexec.hydra -launcher ssh -hosts a:2 -n 2 /bin/cordee engine", NULL);
}

static void a_site_command_and_its_network(void **state)
{
    (void)state;
    struct launch_site site = {.program = "/bin/cordee"};
    check("model: m\nworkers: 1\nlauncher: command\nlauncher_exec: /x/run\nnodes: [{host: 10.77.0.1}]\n"
          "network: {address: 10.77.0.254, ucx_tls: \"tcp,self\", ports: 7000-7100}\n",
          &site,
          "mpiexec.hydra -launcher ssh -launcher-exec /x/run -localhost 10.77.0.254 -hosts 10.77.0.1:2 -n 2 "
          "/bin/cordee engine",
          "UCX_TLS=tcp,self MPIEXEC_PORT_RANGE=7000:7100");
}

static void slurm_keeps_the_allocations_order(void **state)
{
    (void)state;
    static const char *const nodes[] = {"n0", "n1", "n2", "n3"};
    struct launch_site site = {"/bin/cordee", true, nodes, 4};
    check("model: m\nworkers: 3\n", &site,
          "mpiexec.hydra -launcher slurm -hosts n0:2,n1:1,n2:1 -n 4 /bin/cordee engine", "SLURM_OVERLAP=1");
    check("model: m\nworkers: 2\nnodes: [{host: n3}, {host: n1}]\n", &site,
          "mpiexec.hydra -launcher slurm -hosts n1:2,n3:1 -n 3 /bin/cordee engine", NULL);
}

static void a_host_outside_the_allocation_is_refused(void **state)
{
    (void)state;
    static const char *const nodes[] = {"n0"};
    struct launch_site site = {"/bin/cordee", true, nodes, 1};
    const char *hosts[CONFIG_MAX_NODES];
    struct config c;
    struct why why = {0};
    int n;
    static const char yaml[] = "model: m\nnodes: [{host: n7}]\n";
    config_init(&c);
    assert_int_equal(config_parse(&c, yaml, strlen(yaml), "t", &why), ERR_OK);
    assert_int_equal(launch_hosts(&c, &site, hosts, &n, &why), ERR_INVAL);
    assert_non_null(strstr(why.text, "n7"));
    config_fini(&c);
}

/* An epoch of fewer stages than configured: ranks, their hosts, and what ranks are told. */
static void a_weakened_epoch_has_fewer_ranks(void **state)
{
    (void)state;
    struct launch_site site = {.program = "/bin/cordee"};
    struct launch_epoch ep = {"h:1", "secret", "cafe", 7, 2};
    const char *const hosts[] = {"a", "c"};
    struct config c;
    struct launch l;
    struct why why = {0};
    char text[65536];
    static const char yaml[] = "model: m\nworkers: 3\nnodes: [{host: a}, {host: b}, {host: c}]\n";
    config_init(&c);
    assert_int_equal(config_parse(&c, yaml, strlen(yaml), "t", &why), ERR_OK);
    assert_int_equal(launch_build(&c, &site, &ep, hosts, 2, &l, &why), ERR_OK);
    joined(l.argv, text, sizeof text);
    assert_string_equal(text, "mpiexec.hydra -launcher ssh -hosts a:2,c:1 -n 3 /bin/cordee engine");
    joined(l.env, text, sizeof text);
    assert_non_null(strstr(text, "workers: 2"));
    assert_non_null(strstr(text, "CORDEE_HOSTS=a,c"));
    assert_non_null(strstr(text, "CORDEE_MODEL_HASH=cafe"));
    assert_int_equal(c.workers, 3);
    launch_fini(&l);
    config_fini(&c);
}

static void a_probe_goes_the_way_of_a_launch(void **state)
{
    (void)state;
    struct launch_site site = {.program = "/bin/cordee"};
    struct config c;
    struct launch l;
    struct why why = {0};
    char text[4096];
    static const char yaml[] = "model: m\nworkers: 3\nnodes: [{host: a}, {host: b}]\n"
                               "network: {address: h, ports: 7000-7100}\n";
    config_init(&c);
    assert_int_equal(config_parse(&c, yaml, strlen(yaml), "t", &why), ERR_OK);
    assert_int_equal(launch_probe(&c, &site, "b", 2, &l, &why), ERR_OK);
    joined(l.argv, text, sizeof text);
    assert_string_equal(text, "mpiexec.hydra -launcher ssh -localhost h -hosts b -n 1 test -x /bin/cordee -a -r m");
    joined(l.env, text, sizeof text);
    assert_string_equal(text, "CORDEE_PROBE=2 MPIEXEC_PORT_RANGE=7000:7100");
    launch_fini(&l);
    config_fini(&c);
}

/* The rank-to-host map is hydra's for `-hosts a:3,b:3`. */
static void ranks_fill_the_hosts_in_order(void **state)
{
    (void)state;
    static const int want[] = {0, 0, 0, 1, 1, 1};
    for (int rank = 0; rank < 6; rank++)
        assert_int_equal(launch_host_of(5, 2, rank), want[rank]);
    assert_int_equal(launch_host_of(5, 2, 6), -1);
    assert_int_equal(launch_host_of(5, 2, -1), -1);
    assert_int_equal(launch_host_of(5, 0, 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_machine),
        cmocka_unit_test(rank_0_shares_the_first_node),
        cmocka_unit_test(a_site_command_and_its_network),
        cmocka_unit_test(slurm_keeps_the_allocations_order),
        cmocka_unit_test(a_host_outside_the_allocation_is_refused),
        cmocka_unit_test(a_weakened_epoch_has_fewer_ranks),
        cmocka_unit_test(a_probe_goes_the_way_of_a_launch),
        cmocka_unit_test(ranks_fill_the_hosts_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
