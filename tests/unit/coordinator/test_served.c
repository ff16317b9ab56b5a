/* Names of models in requests: the model's own, and "name:adapter". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/front/served.h"

static const struct model_facts facts = {.name = "llama:7b", .n_adapters = 2, .adapters = {"legal", "sql"}};

static err find(const struct model_facts *f, const char *model, const char **adapter)
{
    struct why why = {""};
    err e = served_find(f, model, model ? strlen(model) : 0, adapter, &why);
    if (e)
        assert_non_null(strstr(why.text, "\"llama:7b:sql\""));
    return e;
}

static void names_are_found(void **state)
{
    const char *adapter;
    (void)state;
    for (const char *const *m = (const char *const[]){NULL, "", "llama:7b"}, *const *end = m + 3; m < end; m++) {
        assert_int_equal(find(&facts, *m, &adapter), ERR_OK);
        assert_null(adapter);
    }
    assert_int_equal(find(&facts, "llama:7b:legal", &adapter), ERR_OK);
    assert_string_equal(adapter, "legal");
    assert_ptr_equal(adapter, facts.adapters[0]);
    assert_int_equal(find(&facts, "llama:7b:sql", &adapter), ERR_OK);
    assert_string_equal(adapter, "sql");
}

static void others_are_not(void **state)
{
    static const char *const wrong[] = {"llama", "llama:7", "llama:7b:", "llama:7bsql", "llama:7b:sq",
                                        "llama:7b:sqlx", "sql", ":sql", "LLAMA:7b"};
    const char *adapter;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(find(&facts, wrong[i], &adapter), ERR_NOTFOUND);
}

static void numbers_and_full_names(void **state)
{
    struct why why;
    uint32_t n;
    char name[SERVED_NAME_BYTES];
    (void)state;
    assert_int_equal(served_number(&facts, NULL, &n, &why), ERR_OK);
    assert_int_equal(n, 0);
    assert_int_equal(served_number(&facts, "", &n, &why), ERR_OK);
    assert_int_equal(n, 0);
    assert_int_equal(served_number(&facts, "legal", &n, &why), ERR_OK);
    assert_int_equal(n, 1);
    assert_int_equal(served_number(&facts, "sql", &n, &why), ERR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(served_number(&facts, "x", &n, &why), ERR_NOTFOUND);
    served_name(&facts, NULL, name, sizeof name);
    assert_string_equal(name, "llama:7b");
    served_name(&facts, "sql", name, sizeof name);
    assert_string_equal(name, "llama:7b:sql");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_found),
        cmocka_unit_test(others_are_not),
        cmocka_unit_test(numbers_and_full_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
