/* Every option of every command: missing, empty, -1, 1e9, too many digits, NaN, unknown, repeated (fault
 * row A9); and QN_ variables. The command's sources are built in, so that options whose command is not
 * registered yet are tested as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "../../cli/options.c"
#include "../../cli/output.c"
#include "../../cli/tables.c"

static const struct command *const all[] = { &cli_train,   &cli_eval,   &cli_predict, &cli_plan,    &cli_check,
                                             &cli_show,    &cli_search, &cli_schema,  &cli_devices, &cli_doctor,
                                             &cli_convert, &cli_demo,   &cli_ensemble };
enum { N = sizeof all / sizeof *all };

static struct options o;
static qn_error err;
static bool help;

/* Runs the parser on words separated by '|'; the arguments a command needs are put behind them. */
static qn_status parse(const struct command *c, const char *words, bool add_args)
{
    static char text[512];
    char *argv[40] = { (char *)(uintptr_t)c->name };
    int argc = 1;
    snprintf(text, sizeof text, "%s", words);
    for (char *p = text; *words; p = strchr(p, '|') + 1) {
        argv[argc++] = p;
        if (!strchr(p, '|')) break;
    }
    for (char *p = text; *p; p++)
        if (*p == '|') *p = 0;
    for (int i = 0; i < c->min_args && add_args; i++) argv[argc++] = (char *)(uintptr_t) "file";
    err = (qn_error){ 0 };
    cli_free(&o);
    return cli_options(c, argc, argv, &o, &help, &err);
}

static void good(const struct command *c, const char *words)
{
    if (parse(c, words, true)) fail_msg("quern %s %s: %s", c->name, words, err.text);
}

static void bad(const struct command *c, const char *words, const char *line)
{
    char expected[401];
    snprintf(expected, sizeof expected, "error E2001 usage: %s; see quern %s --help", line, c->name);
    qn_status status = parse(c, words, true);
    if (status != QN_EUSAGE || strcmp(err.text, expected) != 0)
        fail_msg("quern %s %s\n  gives    %s\n  expected %s", c->name, words, status ? err.text : "no error", expected);
}

static void whole_numbers(void **state)
{
    (void)state;
    static const char *const rubbish[] = { "",    "-1",  "1e9",  "9999999999999999999999",
                                           "NaN", "1.5", "0x10", " 1",
                                           "1 ",  "+",   "1,5",  "inf" };
    int tested = 0;
    for (int k = 0; k < N; k++)
        for (int i = 0; i < all[k]->n_options; i++) {
            const struct option_row *row = &all[k]->option[i];
            if (row->type != OPTION_INT) continue;
            char words[80], line[200], want[80];
            snprintf(want, sizeof want, "an integer %.0f..%.0f", row->min, row->max);
            for (size_t r = 0; r < sizeof rubbish / sizeof *rubbish; r++) {
                snprintf(words, sizeof words, "--%s=%s", row->name, rubbish[r]);
                snprintf(line, sizeof line, "--%s: \"%s\"; expected %s", row->name, rubbish[r], want);
                bad(all[k], words, line);
            }
            snprintf(words, sizeof words, "--%s|%.0f|--%s=%.0f", row->name, row->min, row->name, row->max);
            snprintf(line, sizeof line, "--%s: repeated; expected once", row->name);
            bad(all[k], words, line);
            snprintf(words, sizeof words, "--%s=%.0f", row->name, row->min - 1);
            assert_int_equal(parse(all[k], words, true), QN_EUSAGE);
            snprintf(words, sizeof words, "--%s=%.0f", row->name, row->max + 1);
            assert_int_equal(parse(all[k], words, true), QN_EUSAGE);
            snprintf(words, sizeof words, "--%s=%.0f", row->name, row->min);
            good(all[k], words);
            int64_t value;
            memcpy(&value, (char *)&o + row->offset, sizeof value);
            assert_true((double)value == row->min);
            snprintf(words, sizeof words, "file|--%s", row->name);
            snprintf(line, sizeof line, "--%s: value missing; expected %s", row->name, want);
            assert_int_equal(parse(all[k], words, false), QN_EUSAGE);
            assert_memory_equal(err.text + strlen("error E2001 usage: "), line, strlen(line));
            tested++;
        }
    assert_true(tested >= 15);
}

static void other_options(void **state)
{
    (void)state;
    for (int k = 0; k < N; k++)
        for (int i = 0; i < all[k]->n_options; i++) {
            const struct option_row *row = &all[k]->option[i];
            char words[120], line[200], want[160];
            assert_true(row->doc && *row->doc && row->doc[strlen(row->doc) - 1] != '.');
            assert_true((row->type == OPTION_FLAG) == (row->arg == NULL));
            expected(row, want, sizeof want);
            if (row->type == OPTION_FLAG) {
                snprintf(words, sizeof words, "--%s=3", row->name);
                snprintf(line, sizeof line, "--%s: has a value; expected none", row->name);
                bad(all[k], words, line);
                snprintf(words, sizeof words, "--%s|--%s", row->name, row->name);
                snprintf(line, sizeof line, "--%s: repeated; expected once", row->name);
                bad(all[k], words, line);
            } else if (row->type != OPTION_INT) {
                snprintf(words, sizeof words, "--%s=", row->name);
                snprintf(line, sizeof line, "--%s: \"\"; expected %s", row->name, want);
                bad(all[k], words, line);
            }
            if (row->type == OPTION_CHOICE) {
                snprintf(words, sizeof words, "--%s=NaN", row->name);
                snprintf(line, sizeof line, "--%s: \"NaN\"; expected %s", row->name, want);
                bad(all[k], words, line);
                snprintf(words, sizeof words, "--%s=%s", row->name, row->choices[0]);
                good(all[k], words);
            }
        }
}

static void unknown_options(void **state)
{
    (void)state;
    for (int k = 0; k < N; k++) {
        bad(all[k], "--zzzzzzzzzz", "--zzzzzzzzzz: unknown option");
        bad(all[k], "--halp", "--halp: unknown option; did you mean --help?");
        bad(all[k], "-Z", "-Z: unknown option");
        bad(all[k], "--help=1", "--help: has a value; expected none");
        good(all[k], "--help");
        assert_true(help);
    }
    bad(&cli_train, "--epoch=x", "--epochs: \"x\"; expected an integer 1..1000000"); /* abbreviated */
    bad(&cli_train, "--epochz=3", "--epochz: unknown option; did you mean --epochs?");
    bad(&cli_train, "--se=3", "--se: more than one option begins so; expected the whole name");
    bad(&cli_train, "-qX", "-X: unknown option");
    bad(&cli_train, "-\xff", "-\\xFF: unknown option");
    bad(&cli_train, "--\xff=%n", "--\\xFF: unknown option");
}

static void arguments(void **state)
{
    (void)state;
    for (int k = 0; k < N; k++) {
        const struct command *c = all[k];
        char line[401];
        if (c->min_args > 0) {
            snprintf(line, sizeof line, "error E2001 usage: %s: missing; expected %s; see quern %s --help", c->args,
                     c->args, c->name);
            assert_int_equal(parse(c, "", false), QN_EUSAGE);
            assert_string_equal(err.text, line);
        }
        if (c->max_args < 30) {
            char words[200] = "x";
            for (int i = 0; i < c->max_args; i++) snprintf(words + strlen(words), sizeof words - strlen(words), "|x");
            assert_int_equal(parse(c, words, false), QN_EUSAGE);
            assert_non_null(strstr(err.text, "argument: \"x\"; expected n"));
        }
    }
    assert_int_equal(parse(&cli_train, "--|--epochs", false), QN_OK); /* after -- all is argument */
    assert_string_equal(o.args.v[0], "--epochs");
    assert_int_equal(parse(&cli_predict, "m|-", false), QN_OK);
    assert_string_equal(o.args.v[1], "-");
}

static void values_arrive(void **state)
{
    (void)state;
    assert_int_equal(parse(&cli_train,
                           "r.json|--set=a=1|-s|b=2|--device|cpu|-t|2|--seed=7|-e3|--resume=runs/x-1|-o|out|"
                           "--check-finite|--profile|-q|--json",
                           false),
                     QN_OK);
    assert_int_equal(o.args.n, 1);
    assert_string_equal(o.args.v[0], "r.json");
    assert_int_equal(o.set.n, 2);
    assert_string_equal(o.set.v[0], "a=1");
    assert_string_equal(o.set.v[1], "b=2");
    assert_string_equal(o.device, "cpu");
    assert_true(o.threads == 2 && o.seed == 7 && o.epochs == 3);
    assert_true(o.resume.given && strcmp(o.resume.value, "runs/x-1") == 0);
    assert_string_equal(o.out, "out");
    assert_true(o.check_finite && o.profile && o.quiet && o.json);
    assert_int_equal(parse(&cli_train, "r.json|--resume", false), QN_OK);
    assert_true(o.resume.given && !o.resume.value);
    assert_int_equal(parse(&cli_train, "r.json", false), QN_OK);
    assert_true(!o.resume.given && o.threads == -1 && o.seed == -1 && o.epochs == -1 && !o.device && !o.quiet);
    char many[256] = "r.json";
    for (int i = 0; i < 20; i++) snprintf(many + strlen(many), sizeof many - strlen(many), "|-sa=%d", i);
    assert_int_equal(parse(&cli_train, many, false), QN_OK);
    assert_int_equal(o.set.n, 20);
    assert_string_equal(o.set.v[19], "a=19");
}

static void environment(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line;
    } row[] = {
        { "QN_PLAN=none", NULL },
        { "QN_PLAN=", "QN_PLAN: \"\"; expected none" },
        { "QN_PLAN=None", "QN_PLAN: \"None\"; expected none" },
        { "QN_THREADS=2", NULL },
        { "QN_THREADS=0", "QN_THREADS: \"0\"; expected an integer 1..1024" },
        { "QN_THREADS=-1", "QN_THREADS: \"-1\"; expected an integer 1..1024" },
        { "QN_THREADS=1e3", "QN_THREADS: \"1e3\"; expected an integer 1..1024" },
        { "QN_THREADS=9999999999999999999999", "QN_THREADS: \"9999999999999999999999\"; expected an integer 1..1024" },
        { "QN_SYNC=1", NULL },
        { "QN_SYNC=yes", "QN_SYNC: \"yes\"; expected 0 or 1" },
        { "QN_DUMP=grad,fuse,plan", NULL },
        { "QN_DUMP=grad,,plan", "QN_DUMP: \"grad,,plan\"; expected names of passes with commas between, like "
                                "grad,fuse,plan" },
        { "QN_DUMP=%n\n", "QN_DUMP: \"%n\\x0A\"; expected names of passes with commas between, like grad,fuse,plan" },
        { "QN_THRAEDS=2", "QN_THRAEDS: unknown variable; did you mean QN_THREADS?" },
        { "QN_TEST_LONG=1", NULL },
        { "OTHER=rubbish", NULL },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char *env[] = { (char *)(uintptr_t) "PATH=/bin", (char *)(uintptr_t)row[i].text, NULL };
        char expected_line[401];
        qn_status status = cli_environment(env, &err);
        assert_int_equal(status, row[i].line ? QN_EUSAGE : QN_OK);
        if (!row[i].line) continue;
        snprintf(expected_line, sizeof expected_line, "error E2002 usage: %s", row[i].line);
        assert_string_equal(err.text, expected_line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers), cmocka_unit_test(other_options), cmocka_unit_test(unknown_options),
        cmocka_unit_test(arguments),     cmocka_unit_test(values_arrive), cmocka_unit_test(environment),
    };
    int failed = cmocka_run_group_tests_name("options", tests, NULL, NULL);
    cli_free(&o);
    return failed;
}
