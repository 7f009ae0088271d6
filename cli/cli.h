/* cli.h - the command line: one table of options per command drives parsing, help and man page.
 *
 * A command is `int cmd_x(int argc, char **argv)` in cli/cmd_x.c; argv[0] is its name. It begins with
 *
 *     struct options o;
 *     int code = cli_parse(&cli_x, argc, argv, &o);
 *     if (code >= 0) return code;      // --help was printed, or an error line
 *     ...
 *     cli_free(&o);
 *
 * and is added to the list in main.c. Results go to stdout, progress and errors to stderr. */
#ifndef QN_CLI_CLI_H
#define QN_CLI_CLI_H
#include "../core/base.h"
#include "../include/quern/device.h"
#include "../include/quern/recipe.h"
#include <stdio.h>

enum option_type {
    OPTION_FLAG,   /* bool                                             */
    OPTION_INT,    /* int64_t                                          */
    OPTION_REAL,   /* double                                           */
    OPTION_TEXT,   /* const char *, not empty                          */
    OPTION_TEXTS,  /* struct list; may be repeated                     */
    OPTION_CHOICE, /* const char *, one of `choices`                   */
    OPTION_MAYBE,  /* struct maybe; the value may be left out          */
};

struct list {
    int n;
    const char **v;
};
struct maybe {
    bool given;
    const char *value;
}; /* NULL: given without a value */

/* Values of all options there are; -1 or NULL where not given. */
struct options {
    struct list args; /* what is not an option */
    struct list set;
    const char *device, *out, *data, *gpu, *space, *method, *pass, *svg, *dtype, *tuning;
    int64_t threads, seed, epochs, folds, batch, trials, top;
    struct maybe resume;
    bool check_finite, profile, quiet, json, markdown, verify;
    char chosen[QN_DEVICE_NAME]; /* what `device` points to once it is chosen */
};

struct option_row {
    const char *name; /* without the dashes                     */
    int key;          /* a letter, or 0                         */
    const char *arg;  /* what --help calls the value; NULL none */
    enum option_type type;
    size_t offset; /* into struct options                    */
    double min, max;
    const char *const *choices; /* NULL-terminated                        */
    const char *doc;
};

struct command {
    const char *name;
    const char *summary; /* one line for `quern --help`       */
    const char *args;    /* "RECIPE", "MODEL INPUT..."        */
    const char *doc;     /* what it does, for its own --help  */
    const struct option_row *option;
    int n_options;
    int min_args, max_args;
};

extern const struct command cli_train, cli_eval, cli_predict, cli_plan, cli_check, cli_show, cli_search, cli_schema,
    cli_devices, cli_doctor, cli_convert, cli_demo, cli_ensemble, cli_tune;

int cmd_train(int argc, char **argv);
int cmd_schema(int argc, char **argv);
int cmd_predict(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_ensemble(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_devices(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_search(int argc, char **argv);
int cmd_tune(int argc, char **argv);

/* Fills o; -1 to go on, or the exit code after help or an error line. */
int cli_parse(const struct command *c, int argc, char **argv, struct options *o);
void cli_free(struct options *o);

/* The same without printing: QN_OK, or the error. *help: --help was asked for. */
qn_status cli_options(const struct command *c, int argc, char **argv, struct options *o, bool *help, qn_error *err);
void cli_help(const struct command *c, FILE *out);

/* E2002 for a QN_ variable that is unknown or malformed. */
qn_status cli_environment(char *const *env, qn_error *err);

/* Prints the line(s) to stderr; returns the exit code. */
int cli_fail(const qn_error *err);
int cli_fail_recipe(const qn_recipe_errors *errs, const char *path, qn_status status);

/* Flushes stdout: E6002 if what was printed did not arrive. A reader who has left early is no error. */
int cli_finish(int code);

/* A JSON string on stdout, with its quotes. */
void cli_json_text(const char *text);

/* "[2,3]"; returns buf. */
const char *cli_dims_text(char *buf, size_t size, int rank, const int64_t *dim);

/* Whether a path ends so, in capitals or not. */
bool cli_has_suffix(const char *path, const char *suffix);

/* The man page. */
void cli_man(const struct command *const *commands, int n, FILE *out);
void cli_overview(const struct command *const *commands, int n, FILE *out);
#endif
