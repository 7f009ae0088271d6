/* passes.h - runs one pass of the compiler on a graph of the test's own. */
#ifndef QN_TESTS_CORE_PASSES_H
#define QN_TESTS_CORE_PASSES_H
#include "../../core/pass.h"

/* The graph after a pass, verified; keep (n ids of values that stay) is mapped in place. Frees g. cpu: the f32 backend
 * that the pass asks; NULL for passes that ask none. */
qn_graph *passes_run(qn__pass *pass, qn_graph *g, int32_t *keep, int n, const struct qn__backend *cpu);
/* Fails the test unless the graph's text is that of tests/core/golden/NAME.txt. */
void passes_check_golden(const qn_graph *g, const char *name);
#endif
