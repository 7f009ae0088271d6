/* man.c - `quern --help` and the man page, from the tables. */
#include "cli.h"
#include <string.h>

void cli_overview(const struct command *const *commands, int n, FILE *out)
{
    fprintf(out, "Usage: quern COMMAND [OPTION...] [ARGUMENT...]\n"
                 "Quern trains neural networks described by recipes.\n\nCommands:\n");
    for (int i = 0; i < n; i++) fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(out, "\n  quern COMMAND --help   its options\n  quern --version        the version\n\n"
                 "Exit status: 0 done, 2 usage or recipe, 3 data, 4 model, 5 memory, 6 input/output, 7 "
                 "device,\n"
                 "9 numerical stop, 70 internal error, 75 stopped on request with the state saved.\n");
}

/* Text for troff: '-' and '\' escaped, no line begins with a control character. */
static void roff(FILE *out, const char *s)
{
    if (*s == '.' || *s == '\'') fputs("\\&", out);
    for (; *s; s++) {
        if (*s == '\\')
            fputs("\\e", out);
        else if (*s == '-')
            fputs("\\-", out);
        else if (*s != '`')
            fputc(*s, out);
    }
}

static void man_option(const struct option_row *row, FILE *out)
{
    fputs(".TP\n", out);
    if (row->key) fprintf(out, "\\fB\\-%c\\fR, ", row->key);
    fputs("\\fB\\-\\-", out);
    roff(out, row->name);
    fputs("\\fR", out);
    if (row->arg) fprintf(out, row->type == OPTION_MAYBE ? "[=\\fI%s\\fR]" : "=\\fI%s\\fR", row->arg);
    fputs("\n", out);
    roff(out, row->doc);
    for (int i = 0; row->choices && row->choices[i]; i++) fprintf(out, "%s%s", i ? ", " : " (", row->choices[i]);
    fputs(row->choices ? ").\n" : ".\n", out);
}

static void man_command(const struct command *c, FILE *out)
{
    fprintf(out, ".SS quern %s [\\fIOPTION\\fR...] %s\n", c->name, c->args);
    roff(out, c->doc);
    fputs("\n", out);
    for (int i = 0; i < c->n_options; i++) man_option(&c->option[i], out);
}

void cli_man(const struct command *const *commands, int n, FILE *out)
{
    fprintf(out,
            ".\\\" Written by `quern --man`; do not edit. The source is cli/tables.c.\n"
            ".TH QUERN 1 \"\" \"Quern %s\" \"User Commands\"\n.SH NAME\nquern \\- train neural "
            "networks from recipes\n"
            ".SH SYNOPSIS\n\\fBquern\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]\n"
            ".SH DESCRIPTION\nQuern trains neural networks that JSON recipes describe. Results go to "
            "standard output,\n"
            "progress and errors to standard error; an error is one line that begins with its code.\n.SH COMMANDS\n",
            qn_version());
    for (int i = 0; i < n; i++) man_command(commands[i], out);
    fputs(".SH ENVIRONMENT\n"
          ".TP\n.B QN_THREADS\nCPU threads, where neither option nor recipe says.\n"
          ".TP\n.B QN_PLAN\n\\(lqnone\\(rq gives each value its own memory; results stay the same, "
          "bit for bit.\n"
          ".TP\n.B QN_DUMP\nPasses after which the graph is printed, like grad,fuse,plan.\n"
          ".TP\n.B QN_SYNC\n1 waits after each operator, so that a fault names its culprit.\n"
          ".TP\n.B QN_CUDA_PLUGIN\nThe CUDA plugin to open, instead of libquern_cuda.so beside quern or in its lib "
          "folder.\n"
          ".TP\n.B QN_GRAPHS\n\\(lqoff\\(rq launches the GPU's kernels one by one instead of replaying CUDA graphs; "
          "results "
          "stay the same, bit for bit.\n"
          ".TP\n.B NO_COLOR\nNot empty: no colours.\n"
          ".SH EXIT STATUS\n",
          out);
#define X(name, code, text) fprintf(out, ".TP\n.B %d\n%s\n", code, text);
    QN_STATUS_MAP(X)
#undef X
    fputs(".SH SEE ALSO\ndocs/recipes.md: every key of a recipe.\n", out);
}
