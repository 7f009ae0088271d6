/* Every mistake in a recipe: the exact line (fault rows A7, B1, B7). */
#include "recipe_aid.h"
#include "../lib/workdir.h"
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define D "{\"quern\": 1, \"data\": {\"digits\": 100, \"validation\": 0.1},\n"

static const struct {
    const char *text, *line;
} rows[] = {
    /* not JSON */
    { "", "error E2101 config: r.json:1:1: JSON: end of file; expected a value" },
    { "// only\n", "error E2101 config: r.json:2:1: JSON: end of file; expected a value" },
    { "[]", "error E2107 config: r.json:1:1: not an object; expected { ... }" },
    { "{\n  quern: 1}", "error E2101 config: r.json:2:3: JSON: quern; expected a key in quotes or \"}\"" },
    { "{\"a\": 1,}", "error E2101 config: r.json:1:9: JSON: }; expected a key in quotes" },
    { "{\"a\": [1 2]}", "error E2101 config: r.json:1:10: JSON: 2; expected \",\" or \"]\"" },
    { "{\"a\" 1}", "error E2101 config: r.json:1:6: JSON: 1; expected \":\" after the key" },
    { "{\"a\": 1} x", "error E2101 config: r.json:1:10: JSON: x; expected nothing after the end" },
    { "{\"a\": NaN}", "error E2101 config: r.json:1:7: JSON: NaN; expected a value" },
    { "{\"a\": 01}", "error E2101 config: r.json:1:7: JSON: 01; expected a value" },
    { "{\"a\": 0x10}", "error E2101 config: r.json:1:7: JSON: 0x10; expected a value" },
    { "{\"a\": 1e999}", "error E2108 config: r.json:1:7: JSON: 1e999; expected an integer of 64 bits or a finite "
                        "number" },
    { "{\"a\": 9223372036854775808}", "error E2108 config: r.json:1:7: JSON: 9223372036854775808; expected an integer "
                                      "of 64 bits or a finite number" },
    { "{\"a\": \"b\n\"}", "error E2101 config: r.json:1:7: JSON: string without end; expected a closing quote" },
    { "{\"a\": \"\\x\"}", "error E2101 config: r.json:1:9: JSON: x; expected one of \" \\ / b f n r t u after a "
                          "backslash" },
    { "{\"a\": \"\\u12g4\"}", "error E2101 config: r.json:1:12: JSON: \\u; expected four hexadecimal digits after it" },
    { "{\"a\": \"\t\"}", "error E2102 config: r.json:1:8: JSON: \\x09; expected no control character in a string" },
    { "{\"a\": /* 1}", "error E2101 config: r.json:1:7: JSON: comment without end; expected \"*/\"" },
    { "{\"\xc3\xa4\": \"\xff\"}", "error E2102 config: r.json:1:8: JSON: byte 0xFF; expected UTF-8" },
    { "{\"a\": \"\xed\xa0\x80\"}", "error E2102 config: r.json:1:8: JSON: byte 0xED; expected UTF-8" },
    { "{\"a\": 1,\n \"a\": 2}", "error E2104 config: r.json:2:2: a: key repeated; expected once (first at 1:2)" },
    /* keys */
    { D MODEL ", \"epoch\": 3}", "error E2105 config: r.json:2:28: epoch: unknown key; did you mean \"epochs\"?" },
    { D MODEL ", \"zzzzzz\": 3}", "error E2105 config: r.json:2:28: zzzzzz: unknown key; expected one of quern, name, "
                                  "vars, data, augment, model, loss, optimizer, schedule, metrics, epochs, batch, "
                                  "accumulate, seed, device, threads, early_stopping, checkpoint, clip, ema, "
                                  "penalties, log, spike" },
    { "{\"quern\": 1, " MODEL "}", "error E2106 config: r.json:1:1: data: missing; expected an object or a string" },
    { "{\"data\": {\"digits\": 100}, " MODEL "}", "error E2106 config: r.json:1:1: quern: missing; expected 1" },
    { "{\"quern\": 2, \"data\": {\"digits\": 100}, " MODEL "}",
      "error E2108 config: r.json:1:11: quern: 2; expected 1" },
    { D MODEL ", \"epochs\": \"ten\"}",
      "error E2107 config: r.json:2:38: epochs: \"ten\"; expected an integer 1..1000000" },
    { D MODEL ", \"epochs\": 1.5}", "error E2107 config: r.json:2:38: epochs: 1.5; expected an integer 1..1000000" },
    { D MODEL ", \"epochs\": 0}", "error E2108 config: r.json:2:38: epochs: 0; expected an integer 1..1000000" },
    { D MODEL ", \"epochs\": null}", "error E2107 config: r.json:2:38: epochs: null; expected an integer 1..1000000" },
    { D MODEL ", \"name\": \"a/b\"}", "error E2108 config: r.json:2:36: name: \"a/b\"; expected letters, digits and . "
                                      "_ -, not beginning with a dot" },
    { D MODEL ", \"device\": \"gpu\"}",
      "error E2109 config: r.json:2:38: device: \"gpu\"; expected auto, cpu, cuda or cuda:0" },
    { D MODEL ", \"optimizer\": \"adamm\"}",
      "error E2109 config: r.json:2:41: optimizer.name: \"adamm\"; expected one of sgd, adam, adamw, rmsprop, adagrad, "
      "lamb, lion; did you mean \"adam\"?" },
    { D MODEL ", \"optimizer\": {\"name\": \"adam\", \"momentum\": 0.9}}",
      "error E2105 config: r.json:2:58: optimizer.momentum: not an option of \"adam\"" },
    { D MODEL ", \"optimizer\": {\"name\": \"adam\", \"betas\": [0.9, 1]}}",
      "error E2108 config: r.json:2:73: optimizer.betas[1]: 1; expected two numbers 0..0.999999" },
    { D MODEL ", \"metrics\": [{\"k\": 3}]}",
      "error E2106 config: r.json:2:40: metrics[0].name: missing; expected one of accuracy, top_k, precision, recall, "
      "f1, auc, confusion" },
    { D MODEL ", \"optimizer\": {\"name\": \"sgd\", \"nesterov\": true}}",
      "error E2117 config: r.json:2:69: optimizer.nesterov: true without momentum; expected momentum above 0" },
    { D MODEL ", \"schedule\": {\"name\": \"multi_step\", \"at\": [2, 2]}}",
      "error E2108 config: r.json:2:69: schedule.at: not rising; expected rising times" },
    { D MODEL ", \"schedule\": {\"name\": \"multi_step\", \"at\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}}",
      "error E2108 config: r.json:2:69: schedule.at: 17 times; expected at most 16" },
    { D MODEL ", \"early_stopping\": {\"metric\": \"f1\"}}",
      "error E2109 config: r.json:2:57: early_stopping.metric: \"f1\"; expected \"loss\" or one of \"metrics\" that is "
      "one number" },
    /* data */
    { "{\"quern\": 1, \"data\": {}, " MODEL "}",
      "error E2112 config: r.json:1:22: data: no kind; expected one of name, idx, png, csv, npy, digits" },
    { "{\"quern\": 1, \"data\": {\"png\": \"a\", \"csv\": \"b\"}, " MODEL "}",
      "error E2112 config: r.json:1:35: data: \"csv\" beside \"png\"; expected only one of them" },
    { "{\"quern\": 1, \"data\": \"mnist\", " MODEL "}",
      "error E2106 config: r.json:1:22: data.dir: missing; expected the directory of the files; --set data.dir=DIR" },
    { "{\"quern\": 1, \"data\": {\"csv\": \"b\"}, " MODEL "}",
      "error E2106 config: r.json:1:22: data.label: missing; expected a string" },
    { "{\"quern\": 1, \"data\": {\"digits\": 100, \"label\": \"b\"}, " MODEL "}",
      "error E2105 config: r.json:1:38: data.label: not an option of \"digits\"" },
    { "{\"quern\": 1, \"data\": {\"digits\": 100}, " MODEL ", \"early_stopping\": true}",
      "error E2117 config: r.json:1:84: early_stopping: needs a validation part; expected data.validation or "
      "data.folds" },
    { "{\"quern\": 1, \"data\": {\"digits\": 100, \"folds\": 5, \"fold\": 5}, " MODEL "}",
      "error E2108 config: r.json:1:58: data.fold: 5; expected less than data.folds, 5" },
    { "{\"quern\": 1, \"data\": {\"digits\": 100, \"normalize\": {\"mean\": [1], \"std\": [1, "
      "2]}}, " MODEL "}",
      "error E2117 config: r.json:1:51: data.normalize: mean has 1 numbers, std 2; expected as many" },
    /* layers */
    { D "\"model\": []}", "error E2115 config: r.json:2:10: model: empty; expected at least one layer" },
    { D "\"model\": {}}", "error E2107 config: r.json:2:10: model: an object; expected a list of layers" },
    { D "\"model\": [{}]}", "error E2112 config: r.json:2:11: model[0]: no kind; expected a key like \"conv\" or "
                            "\"linear\" that says which layer" },
    { D "\"model\": [{\"conv\": 8, \"linear\": 8}]}",
      "error E2112 config: r.json:2:23: model[0]: \"linear\" beside \"conv\"; expected only one of them" },
    { D "\"model\": [{\"conv\": 8, \"stride\": 0}]}",
      "error E2108 config: r.json:2:33: model[0].stride: 0; expected an integer 1..32 or two" },
    { D "\"model\": [{\"conv\": 8, \"kernal\": 3}]}",
      "error E2105 config: r.json:2:23: model[0].kernal: unknown key; did you mean \"kernel\"?" },
    { D "\"model\": [\"rellu\"]}",
      "error E2105 config: r.json:2:11: model[0].rellu: unknown key; did you mean \"relu\"?" },
    { D "\"model\": [\"linear\"]}",
      "error E2107 config: r.json:2:11: model[0].linear: true; expected an integer 1..1048576" },
    { D "\"model\": [{\"relu\": false}]}", "error E2107 config: r.json:2:20: model[0].relu: false; expected true or an "
                                           "object of options" },
    { D "\"model\": [{\"max_pool\": 2, \"bias\": true}]}",
      "error E2105 config: r.json:2:27: model[0].bias: not an option of \"max_pool\"" },
    { D "\"model\": [{\"max_pool\": 2, \"padding\": 2}]}",
      "error E2117 config: r.json:2:11: model[0].padding: 2; expected less than the window, 2" },
    { D "\"model\": [{\"conv\": 9, \"groups\": 2}]}",
      "error E2117 config: r.json:2:11: model[0].groups: 2; expected a divisor of the 9 output channels" },
    { D "\"model\": [{\"reshape\": [-1, -1]}]}",
      "error E2108 config: r.json:2:11: model[0].reshape: 2 times -1; expected at most one" },
    { D "\"model\": [{\"relu\": true, \"name\": \"a\"},\n{\"relu\": true, \"name\": \"a\"}]}",
      "error E2114 config: r.json:3:24: model[1]: name \"a\" repeated; expected another" },
    { D "\"model\": [{\"relu\": true, \"name\": \"input\"}]}",
      "error E2108 config: r.json:2:34: model[0]: name \"input\"; expected another: it means the network's input" },
    { D "\"model\": [{\"relu\": true, \"name\": \"a b\"}]}",
      "error E2108 config: r.json:2:34: model[0]: name \"a b\"; expected letters, digits and . _ - /" },
    { D "\"model\": [{\"relu\": true, \"name\": \"stem\"}, {\"relu\": true, \"from\": \"sten\"}]}",
      "error E2113 config: r.json:2:66: model[1]: from \"sten\": no such layer; did you mean \"stem\"?" },
    { D "\"model\": [{\"relu\": true, \"from\": \"xyz\"}]}",
      "error E2113 config: r.json:2:34: model[0]: from \"xyz\": no such layer; expected an earlier one or \"input\"" },
    { D "\"model\": [{\"relu\": true, \"name\": \"a\", \"from\": \"a\"}]}",
      "error E2113 config: r.json:2:47: model[0]: from \"a\": the layer itself; expected an earlier layer" },
    { D "\"model\": [{\"relu\": true, \"from\": \"b\"}, {\"relu\": true, \"name\": \"b\"}]}",
      "error E2113 config: r.json:2:34: model[0]: from \"b\": comes later; expected an earlier layer" },
    { D "\"model\": [{\"add\": true}]}", "error E2113 config: r.json:2:11: model[0]: 1 inputs; expected two or more in "
                                         "\"from\", or branches" },
    { D "\"model\": [\"relu\", {\"tanh\": true, \"from\": [\"relu1\", \"input\"]}]}",
      "error E2113 config: r.json:2:19: model[1]: 2 inputs; expected one" },
    { D "\"model\": [{\"repeat\": 2, \"layers\": []}]}",
      "error E2115 config: r.json:2:35: model[0].layers: empty; expected at least one layer" },
    { D "\"model\": [{\"repeat\": 1000000, \"layers\": [\"relu\"]}]}",
      "error E2108 config: r.json:2:22: model[0].repeat: 1000000; expected an integer 1..4096" },
    { D "\"model\": [{\"repeat\": 4096, \"layers\": [{\"repeat\": 4096, \"layers\": [\"relu\"]}]}]}",
      "error E2103 config: r.json:2:10: model: more than 4096 layers, written out; expected at most 4096" },
    { D "\"model\": [{\"concat\": [[\"relu\"]]}]}",
      "error E2107 config: r.json:2:22: model[0].concat: too few or too many branches; expected true or a list of "
      "lists of layers (2..64)" },
    /* variables */
    { D "\"vars\": {\"width\": 8}, \"model\": [{\"linear\": \"$wdth\"}]}",
      "error E2110 config: r.json:2:44: vars: \"$wdth\": unknown variable; did you mean \"$width\"?" },
    { D "\"vars\": {\"a\": \"$a\"}, " MODEL "}", "error E2110 config: r.json:2:15: vars: \"$a\": unknown variable; "
                                                 "expected one set before it" },
    { D "\"vars\": [], " MODEL "}", "error E2107 config: r.json:2:9: vars: not an object; expected { name: value }" },
    { D "\"vars\": {\"w\": 0}, \"model\": [{\"linear\": \"$w\"}]}",
      "error E2108 config: r.json:2:40: model[0].linear: 0; expected an integer 1..1048576" },
};

static void exact_lines(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int twice = 0; twice < 2; twice++) { /* and the same line the second time */
            qn_recipe *r = parse_set(rows[i].text, NULL);
            if (!r && errs.count == 1 && strcmp(errs.list[0].text, rows[i].line) == 0) continue;
            wrong++;
            print_error("%s\n  expected %s\n", rows[i].text, rows[i].line);
            for (int k = 0; k < errs.kept; k++) print_error("  found    %s\n", errs.list[k].text);
            qn_recipe_free(r);
        }
    }
    assert_int_equal(wrong, 0);
}

static const struct {
    const char *set, *line;
} set_rows[] = {
    { "epochs", "error E2111 usage: --set epochs: not understood; expected KEY=VALUE, like optimizer.lr=3e-4" },
    { "=3", "error E2111 usage: --set =3: not understood; expected KEY=VALUE, like optimizer.lr=3e-4" },
    { "epochs=", "error E2107 config: --set epochs=: epochs: \"\"; expected an integer 1..1000000" },
    { "epochs=-1", "error E2108 config: --set epochs=-1: epochs: -1; expected an integer 1..1000000" },
    { "epochs=1e9", "error E2107 config: --set epochs=1e9: epochs: 1e+09; expected an integer 1..1000000" },
    { "epochs=9999999999999999999999", "error E2107 config: --set epochs=9999999999999999999999: epochs: "
                                       "\"9999999999999999999999\"; expected an integer 1..1000000" },
    { "optimizer.lr=NaN", "error E2107 config: --set optimizer.lr=NaN: optimizer.lr: \"NaN\"; expected a number "
                          "0..1000" },
    { "optimizer.lrr=1", "error E2105 config: --set optimizer.lrr=1: optimizer.lrr: unknown key; did you mean "
                         "\"lr\"?" },
    { "model[7].linear=1", "error E2111 usage: --set model[7].linear=1: model: [7]; the list has 1 elements, counted "
                           "from 0" },
    { "model[0.linear=1", "error E2111 usage: --set model[0.linear=1: model: \"[\" without \"]\"" },
    { "model.linear=1", "error E2111 usage: --set model.linear=1: model: a list; expected an index like [0]" },
    { "model[0].linear=0", "error E2108 config: --set model[0].linear=0: model[0].linear: 0; expected an integer "
                           "1..1048576" },
    { "data[0]=1", "error E2111 usage: --set data[0]=1: data: not a list; an index does not fit" },
    { "quern.x=1", "error E2111 usage: --set quern.x=1: quern: a number; it has no keys" },
    { "data..b=1", "error E2111 usage: --set data..b=1: data: empty key; expected KEY.KEY[INDEX]=VALUE" },
    { "metrics=[1", "error E2111 usage: --set metrics=[1: metrics: the value is not JSON" },
};

static void exact_lines_of_set(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof set_rows / sizeof *set_rows; i++)
        bad_set(D MODEL "}", set_rows[i].set, set_rows[i].line);
}

static void all_mistakes_in_one_run(void **state)
{
    (void)state;
    const char *text = D "\"model\": [{\"conv\": 0, \"kernal\": 3}, {\"linear\": 10, \"bias\": 1}, \"rellu\"],\n"
                         "\"optimizer\": {\"name\": \"sgd\", \"lr\": -1, \"betas\": [0, 0]}, \"epoch\": 1, "
                         "\"batch\": \"x\"}";
    assert_null(parse_set(text, NULL));
    assert_int_equal(errs.count, 8);
    assert_int_equal(errs.kept, 8);
    assert_int_equal(errs.list[0].line, 2);
    assert_int_equal(errs.list[7].line, 3);
}

static void many_mistakes_are_counted(void **state)
{
    (void)state;
    static char text[64 * 1024];
    size_t at = (size_t)snprintf(text, sizeof text, D "\"model\": [");
    for (int i = 0; i < 1000; i++) at += (size_t)snprintf(text + at, sizeof text - at, "{\"linear\": -%d},", i);
    snprintf(text + at, sizeof text - at, "\"relu\"]}");
    assert_null(parse_set(text, NULL));
    assert_int_equal(errs.kept, QN_RECIPE_ERRORS);
    assert_int_equal(errs.count, 1000);
}

/* n times `what` between head and tail */
static char *stretch(const char *head, const char *what, size_t n, const char *tail)
{
    char *text = calloc(strlen(head) + n * strlen(what) + strlen(tail) + 1, 1), *p = text;
    assert_non_null(text);
    p = (char *)memcpy(p, head, strlen(head)) + strlen(head);
    for (size_t i = 0; i < n; i++) p = (char *)memcpy(p, what, strlen(what)) + strlen(what);
    memcpy(p, tail, strlen(tail));
    return text;
}

static void bombs(void **state)
{
    (void)state;
    static const struct {
        const char *head, *what;
        size_t n;
        const char *tail, *line;
    } bomb[] = {
        { D "\"model\": [", "\"relu\",", 1000000, "\"relu\"]}",
          "error E2103 config: r.json: size: more than 1048576 bytes; expected at most 1048576" },
        { D "\"model\": [", "\"relu\",", 50000, "\"relu\"]}",
          "error E2103 config: r.json:2:10: model: 50001 layers; expected at most 4096" },
        { D "\"model\": [", "1,", 100001, "1]}",
          "error E2103 config: r.json:2:199999: JSON: more than 100000 values; expected at most 100000" },
        { "{\"a\":", "[", 100000, "",
          "error E2103 config: r.json:1:69: JSON: 65 levels of nesting; expected at most 64" },
        { "{\"a\":", "{\"a\":", 100000, "",
          "error E2103 config: r.json:1:321: JSON: 65 levels of nesting; expected at most 64" },
        { "", "[", 1000000, "", "error E2103 config: r.json:1:65: JSON: 65 levels of nesting; expected at most 64" },
    };
    for (size_t i = 0; i < sizeof bomb / sizeof *bomb; i++) {
        char *text = stretch(bomb[i].head, bomb[i].what, bomb[i].n, bomb[i].tail);
        assert_null(parse_set(text, NULL));
        assert_string_equal(errs.list[0].text, bomb[i].line);
        free(text);
    }
}

/* "billion laughs": each variable holds the one before ten times */
static void variables_do_not_explode(void **state)
{
    (void)state;
    char text[4096];
    size_t at = (size_t)snprintf(text, sizeof text, D "\"vars\": {\"v0\": [1]");
    for (int i = 1; i < 12; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, ", \"v%d\": [", i);
        for (int k = 0; k < 10; k++)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s\"$v%d\"", k ? "," : "", i - 1);
        at += (size_t)snprintf(text + at, sizeof text - at, "]");
    }
    snprintf(text + at, sizeof text - at, "}, \"model\": \"$v11\"}");
    assert_null(parse_set(text, NULL));
    assert_int_equal(errs.list[0].code, 2103);
    at = (size_t)snprintf(text, sizeof text, D "\"vars\": {\"v0\": [1]");
    for (int i = 1; i < 100; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, ", \"v%d\": [\"$v%d\"]", i, i - 1);
    snprintf(text + at, sizeof text - at, "}, \"model\": \"$v99\"}");
    assert_null(parse_set(text, NULL));
    assert_int_equal(errs.list[0].code, 2103);
}

static void nul_byte(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":\n \"b\0c\"}";
    qn_recipe *r;
    assert_int_equal(qn_recipe_parse(&r, "r.json", text, sizeof text - 1, NULL, 0, &errs), QN_EUSAGE);
    assert_string_equal(errs.list[0].text, "error E2102 config: r.json:2:4: JSON: byte 0x00; expected text");
    assert_int_equal(qn_recipe_parse(&r, "r.json", "{\"a\": \"\\u0000\"}", 15, NULL, 0, NULL), QN_EUSAGE);
}

static void files(void **state)
{
    const char *path;
    qn_recipe *r;
    assert_int_equal(workdir_begin(state), 0);
    path = workdir_path("none.json");
    assert_int_equal(qn_recipe_load(&r, path, NULL, 0, &errs), QN_EIO);
    assert_int_equal(errs.list[0].code, 6001);
    assert_null(r);
    assert_int_equal(qn_recipe_load(&r, workdir, NULL, 0, &errs), QN_EIO);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(qn_recipe_load(&r, path, NULL, 0, NULL), QN_EIO);
    assert_int_equal(unlink(path), 0);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(D MODEL "}", f);
    assert_int_equal(ftruncate(fileno(f), 0), 0);
    assert_int_equal(fseek(f, QN_RECIPE_BYTES, SEEK_SET), 0);
    fputs("x", f);
    fclose(f);
    assert_int_equal(qn_recipe_load(&r, path, NULL, 0, &errs), QN_EUSAGE);
    assert_int_equal(errs.list[0].code, 2103);
    assert_int_equal(workdir_end(state), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_lines),
        cmocka_unit_test(exact_lines_of_set),
        cmocka_unit_test(all_mistakes_in_one_run),
        cmocka_unit_test(many_mistakes_are_counted),
        cmocka_unit_test(bombs),
        cmocka_unit_test(variables_do_not_explode),
        cmocka_unit_test(nul_byte),
        cmocka_unit_test(files),
    };
    return cmocka_run_group_tests_name("recipe errors", tests, NULL, NULL);
}
