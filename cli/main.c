/* main.c - the `quern` command: finds the command and hands over. */
#include "cli.h"
#include "libraries.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static const struct {
    const struct command *spec;
    int (*run)(int argc, char **argv);
} commands[] = {
    { &cli_train, cmd_train },       { &cli_eval, cmd_eval },       { &cli_predict, cmd_predict },
    { &cli_ensemble, cmd_ensemble }, { &cli_check, cmd_check },     { &cli_convert, cmd_convert },
    { &cli_demo, cmd_demo },         { &cli_devices, cmd_devices }, { &cli_doctor, cmd_doctor },
    { &cli_plan, cmd_plan },         { &cli_show, cmd_show },       { &cli_search, cmd_search },
    { &cli_tune, cmd_tune },         { &cli_schema, cmd_schema },
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static int fail_usage(const char *found, const char *message)
{
    qn_error err;
    qn__fail(&err, 2001, QN_AT_FIELD(found), "%s; see quern --help", message);
    return cli_fail(&err);
}

static int unknown(const char *word, const char *what, const char *const *names, int n)
{
    char message[160];
    int near = qn__nearest(word, names, n);
    if (near >= 0)
        snprintf(message, sizeof message, "unknown %s; did you mean \"%s\"?", what, names[near]);
    else
        snprintf(message, sizeof message, "unknown %s", what);
    return fail_usage(word, message);
}

/* --help, --version and --man stand alone. */
static int main_option(int argc, char **argv, const struct command *const *specs)
{
    static const char *const names[] = { "--help", "--version", "--man" };
    const char *word = argv[1];
    bool help = strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
    bool version = strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0;
    bool man = strcmp(word, "--man") == 0;
    if (!help && !version && !man) return unknown(word, "option", names, 3);
    if (argc > 2) return fail_usage(argv[2], "unexpected argument");
    if (help)
        cli_overview(specs, N_COMMANDS, stdout);
    else if (version)
        printf("quern %s\n", qn_version());
    else
        cli_man(specs, N_COMMANDS, stdout);
    return cli_finish(0);
}

/* OpenMP's threads wait for each other by spinning, by default for about a millisecond: on a machine that is busy
 * with something else that burns the time the others need. A shorter spin (about ten microseconds) is enough for the
 * gaps between kernels. The OpenMP library reads its settings before main, so the command starts itself again with
 * them, unless the user chose. */
static void limit_spinning(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    if (setenv("GOMP_SPINCOUNT", "4000", 1) == 0) execv("/proc/self/exe", argv);
    /* where that is not possible, go on: slower on a busy machine, but right */
}

/* With `2>&-` the next file opened would become stderr, and messages would be written into it. */
static void reserve_standard_streams(void)
{
    int fd;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) close(fd);
}

int main(int argc, char **argv)
{
    limit_spinning(argv);
    const struct command *specs[N_COMMANDS];
    const char *names[N_COMMANDS];
    qn_error err;
    reserve_standard_streams();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error code of write, not our end */
    for (int i = 0; i < N_COMMANDS; i++) {
        specs[i] = commands[i].spec;
        names[i] = specs[i]->name;
    }
    if (cli_environment(environ, &err)) return cli_fail(&err);
    if (argc < 2) return fail_usage("COMMAND", "missing");
    if (argv[1][0] == '-') return main_option(argc, argv, specs);
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], names[i]) == 0) {
            bool doctor = specs[i] == &cli_doctor; /* who tells more of it */
            if (!doctor && cli_check_libraries(&err)) return cli_fail(&err);
            return commands[i].run(argc - 1, argv + 1);
        }
    return unknown(argv[1], "command", names, N_COMMANDS);
}
