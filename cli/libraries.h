/* libraries.h - the libraries that are loaded, and whether they are the ones this program was built for. */
#ifndef QN_CLI_LIBRARIES_H
#define QN_CLI_LIBRARIES_H
#include "cli.h"

struct library {
    const char *name;
    char built[32], loaded[32];
    bool good;
    const char *package; /* what to install */
};
enum { CLI_LIBRARIES = 5 };

/* Fills list: the loaded one must have the major version that was built for and must not be older. */
void cli_libraries(struct library list[CLI_LIBRARIES]);

/* E7002 for the first that is not good. */
qn_status cli_check_libraries(qn_error *err);
#endif
