/* options.c - argp driven by the tables; every mistake becomes one error line of ours. */
#include "cli.h"
#include <argp.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_KEY = 0x100, HELP_KEY = 'h', MAX_ROWS = 24 };

struct parse {
    const struct command *c;
    struct options *o;
    struct argp_option option[MAX_ROWS + 2]; /* and --help, and the end */
    uint32_t seen;
    bool help;
    int next; /* where argp stopped */
    char **argv;
    qn_error *err;
    qn_status status;
};

static int key_of(const struct command *c, int row)
{
    return c->option[row].key ? c->option[row].key : FIRST_KEY + row;
}

/* "error E2001 usage: --epochs: ...; see quern train --help"; only the first counts. */
static void usage(struct parse *p, const char *field, const char *found, const char *expected)
{
    if (p->status) return;
    p->status = qn__fail(p->err, 2001, QN_AT_FIELD(field), "%s%s%s; see quern %s --help", found,
                         *expected ? "; expected " : "", expected, p->c->name);
}

static const char *expected(const struct option_row *row, char *buf, size_t size)
{
    if (row->type == OPTION_INT)
        snprintf(buf, size, "an integer %.0f..%.0f", row->min, row->max);
    else if (row->type == OPTION_REAL)
        snprintf(buf, size, "a number %g..%g", row->min, row->max);
    else if (row->type == OPTION_CHOICE) {
        size_t at = (size_t)snprintf(buf, size, "one of ");
        for (int i = 0; row->choices[i] && at < size; i++)
            at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? ", " : "", row->choices[i]);
    } else {
        snprintf(buf, size, "%s", row->arg ? row->arg : "no value");
    }
    return buf;
}

/* ---- values ---- */

static bool push(struct list *list, const char *text)
{
    size_t cap = 16;
    while (cap < (size_t)list->n) cap *= 2; /* as qn__grow has left it */
    if (!list->v) cap = 0;
    if (!qn__grow(NULL, &list->v, &cap, (size_t)list->n + 1, sizeof *list->v)) return false;
    list->v[list->n++] = text;
    return true;
}

static bool in_choices(const struct option_row *row, const char *text)
{
    for (int i = 0; row->choices[i]; i++)
        if (strcmp(row->choices[i], text) == 0) return true;
    return false;
}

static bool store(const struct option_row *row, const char *text, void *at)
{
    int64_t i;
    double x;
    switch (row->type) {
    case OPTION_FLAG: *(bool *)at = true; return true;
    case OPTION_INT:
        if (!qn__parse_i64(text, &i) || (double)i < row->min || (double)i > row->max) return false;
        *(int64_t *)at = i;
        return true;
    case OPTION_REAL:
        if (!qn__parse_f64(text, false, &x) || x < row->min || x > row->max) return false;
        *(double *)at = x;
        return true;
    case OPTION_CHOICE:
        if (!in_choices(row, text)) return false;
        *(const char **)at = text;
        return true;
    case OPTION_TEXT: *(const char **)at = text; return *text != 0;
    case OPTION_TEXTS: return *text != 0 && push(at, text);
    case OPTION_MAYBE: *(struct maybe *)at = (struct maybe){ true, text }; return !text || *text;
    }
    return false;
}

static void take(struct parse *p, int index, const char *text)
{
    const struct option_row *row = &p->c->option[index];
    char field[64], want[160], found[340];
    snprintf(field, sizeof field, "--%s", row->name);
    if ((p->seen >> index & 1) && row->type != OPTION_TEXTS) {
        usage(p, field, "repeated", "once");
        return;
    }
    p->seen |= 1u << index;
    if (store(row, text, (char *)p->o + row->offset)) return;
    snprintf(found, sizeof found, "\"%s\"", qn__show(text).s);
    usage(p, field, found, expected(row, want, sizeof want));
}

/* ---- what argp did not like ---- */

static void unknown_option(struct parse *p, const char *name, const char *shown)
{
    const char *names[MAX_ROWS + 1];
    char message[128];
    int n = p->c->n_options;
    for (int i = 0; i < n; i++) names[i] = p->c->option[i].name;
    names[n++] = "help";
    int near = qn__nearest(name, names, n);
    snprintf(message, sizeof message, near >= 0 ? "unknown option; did you mean --%s?" : "unknown option%s",
             near >= 0 ? names[near] : "");
    usage(p, shown, message, "");
}

static void long_option(struct parse *p, const char *word)
{
    const char *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word - 2) : strlen(word) - 2;
    char name[80], field[96], want[160];
    int exact = -1, matches = 0;
    snprintf(name, sizeof name, "%.*s", (int)(n < 79 ? n : 79), word + 2);
    snprintf(field, sizeof field, "--%s", name);
    for (int i = 0; i < p->c->n_options; i++) {
        if (strncmp(p->c->option[i].name, name, strlen(name)) != 0) continue;
        matches++;
        if (exact < 0 || strcmp(p->c->option[i].name, name) == 0) exact = i;
    }
    bool whole = exact >= 0 && strcmp(p->c->option[exact].name, name) == 0;
    if (strcmp(name, "help") == 0)
        usage(p, field, "has a value", "none");
    else if (matches == 0)
        unknown_option(p, name, field);
    else if (matches > 1 && !whole)
        usage(p, field, "more than one option begins so", "the whole name");
    else if (!p->c->option[exact].arg)
        usage(p, field, "has a value", "none");
    else
        usage(p, field, "value missing", expected(&p->c->option[exact], want, sizeof want));
}

static void short_option(struct parse *p, const char *word)
{
    char shown[8], want[160];
    for (const char *c = word + 1; *c; c++) {
        int row = -1;
        for (int i = 0; i < p->c->n_options; i++)
            if (p->c->option[i].key == *c) row = i;
        snprintf(shown, sizeof shown, "-%c", *c);
        if (row >= 0 && p->c->option[row].arg) {
            usage(p, shown, "value missing", expected(&p->c->option[row], want, sizeof want));
            return;
        }
        if (row < 0 && *c != HELP_KEY) {
            unknown_option(p, shown + 1, (unsigned char)*c < 0x80 ? shown : word);
            return;
        }
    }
}

static void diagnose(struct parse *p, int argc)
{
    const char *word = p->next > 0 ? p->argv[p->next - 1] : "";
    if ((word[0] != '-' || word[1] == 0) && p->next < argc) word = p->argv[p->next];
    if (strncmp(word, "--", 2) == 0)
        long_option(p, word);
    else if (word[0] == '-' && word[1])
        short_option(p, word);
    usage(p, "command line", "not understood", "options and arguments");
}

/* ---- argp ---- */

static error_t parser(int key, char *arg, struct argp_state *state)
{
    struct parse *p = state->input;
    if (key == ARGP_KEY_ERROR) {
        p->next = state->next;
        p->argv = state->argv;
        return 0;
    }
    if (key == HELP_KEY) {
        p->help = true;
        return 0;
    }
    if (key == ARGP_KEY_ARG) {
        if (!push(&p->o->args, arg)) p->status = qn__nomem(p->err, "arguments", 0);
        return 0;
    }
    for (int i = 0; i < p->c->n_options; i++)
        if (key == key_of(p->c, i)) {
            take(p, i, arg);
            return 0;
        }
    return ARGP_ERR_UNKNOWN;
}

static void fill(struct argp_option *out, const struct command *c)
{
    for (int i = 0; i < c->n_options; i++) {
        const struct option_row *row = &c->option[i];
        int flags = row->type == OPTION_MAYBE ? OPTION_ARG_OPTIONAL : 0;
        out[i] = (struct argp_option){ row->name, key_of(c, i), row->arg, flags, row->doc, 0 };
    }
    out[c->n_options] = (struct argp_option){ "help", HELP_KEY, NULL, 0, "Print this and exit", -1 };
    out[c->n_options + 1] = (struct argp_option){ 0 };
}

static void check_args(struct parse *p)
{
    const struct command *c = p->c;
    char found[340];
    if (p->o->args.n > c->max_args) {
        snprintf(found, sizeof found, "\"%s\"", qn__show(p->o->args.v[c->max_args]).s);
        usage(p, "argument", found, c->max_args ? "nothing more" : "none");
    }
    for (int i = 0; i < p->o->args.n; i++)
        if (!*p->o->args.v[i]) usage(p, c->args, "empty", "a name");
    if (p->o->args.n < c->min_args) usage(p, c->args, "missing", c->args);
}

qn_status cli_options(const struct command *c, int argc, char **argv, struct options *o, bool *help, qn_error *err)
{
    struct parse p = { .c = c, .o = o, .err = err };
    struct argp argp = { .options = p.option, .parser = parser, .args_doc = c->args, .doc = c->doc };
    *o = (struct options){ .threads = -1, .seed = -1, .epochs = -1, .folds = -1, .batch = -1, .trials = -1, .top = -1 };
    *help = false;
    fill(p.option, c);
    if (argp_parse(&argp, argc, argv, ARGP_NO_EXIT | ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &p)) diagnose(&p, argc);
    *help = p.help;
    if (!p.help) check_args(&p);
    return p.help ? QN_OK : p.status;
}

void cli_help(const struct command *c, FILE *out)
{
    struct argp_option option[MAX_ROWS + 2];
    char name[64];
    fill(option, c);
    struct argp argp = { .options = option, .args_doc = c->args, .doc = c->doc };
    snprintf(name, sizeof name, "quern %s", c->name);
    argp_help(&argp, out, ARGP_HELP_SHORT_USAGE | ARGP_HELP_DOC | ARGP_HELP_LONG, name);
}

int cli_parse(const struct command *c, int argc, char **argv, struct options *o)
{
    qn_error err;
    bool help;
    if (cli_options(c, argc, argv, o, &help, &err)) {
        cli_free(o);
        return cli_fail(&err);
    }
    if (!help) return -1;
    cli_free(o);
    cli_help(c, stdout);
    return cli_finish(0);
}

void cli_free(struct options *o)
{
    free(o->args.v);
    free(o->set.v);
    o->args = o->set = (struct list){ 0 };
}
