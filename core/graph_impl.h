/* graph_impl.h - the graph's fields; for graph.c, grad.c, the passes and the compiler only. */
#ifndef QN_CORE_GRAPH_IMPL_H
#define QN_CORE_GRAPH_IMPL_H
#include "op.h"

/* Names, attributes and constants live in a chain of chunks that is freed with the graph. */
struct qn__chunk {
    struct qn__chunk *next;
    size_t size, used;
};

enum { QN_SCOPE_MAX = 512, QN_SCOPE_DEPTH = 64 };

struct qn_graph {
    qn_alloc alloc;
    struct qn__node *node;
    int32_t n; /* nodes, node 0 ("no value") included */
    size_t cap;
    struct qn__chunk *chunk;
    qn_phase phase;
    char scope[QN_SCOPE_MAX];             /* "a.b."; a pushed name may hold dots itself, */
    uint16_t scope_start[QN_SCOPE_DEPTH]; /* so where each began is kept      */
    int scope_depth;
    qn_error err;
};

/* A new empty graph with the same allocator: what a pass writes to. */
qn_status qn__graph_like(qn_graph **out, const qn_graph *g, qn_error *err);
/* Copies node i of `from` to the end of `to` with its operands mapped; returns its index (0 on failure). */
int32_t qn__graph_carry(qn_graph *to, const qn_graph *from, int32_t i, const int32_t *map);
/* Checks every invariant of a graph that the passes rely on; E7070 with the node and the rule otherwise. */
qn_status qn__graph_verify(const qn_graph *g, qn_error *err);
/* Text of a graph, one line a node, for QN_DUMP and golden tests; free with qn__free(alloc, text, *bytes). */
char *qn__graph_dump(const qn_graph *g, size_t *bytes);
#endif
