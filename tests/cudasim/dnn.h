/* dnn.h - the simulated cuDNN, shared by its files: descriptors of the backend API as an attribute store,
 * convolutions as plain numbers, and the handle.
 *
 * As in the real library setting a descriptor as an attribute copies it, so that it may be destroyed afterwards; here a
 * finalized descriptor never changes and is shared. */
#ifndef QN_TESTS_CUDASIM_DNN_H
#define QN_TESTS_CUDASIM_DNN_H
#include "sim.h"
#pragma GCC visibility push(default)
#include <cudnn.h>
/* Descriptors and handles that were created and not destroyed. */
extern "C" size_t cudasim_dnn_live(void);
#pragma GCC visibility pop
#include <string>

struct cudnnContext {
    uint32_t magic;
    int device;
    cudaStream_t stream;
};

namespace dnn
{

enum : uint32_t { HANDLE = 0x4e4e4443, DESCRIPTOR = 0x53454444, LEGACY = 0x47454c44 };
enum { MAX_VALUES = 16, MAX_TENSORS = 8 };

/* Remembers why, for cudnnGetLastErrorString. */
cudnnStatus_t fail(cudnnStatus_t status, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool handle_is_live(cudnnHandle_t handle);
bool injected(const char *call, cudnnStatus_t *status);
void count_live(int by);
size_t size_of(cudnnDataType_t type); /* 0: not simulated */

/* ---- convolutions (dnn_conv.cpp) ------------------------------------------------------------------------------- */

enum Direction { FORWARD, GRAD_X, GRAD_W };
struct Tensor {
    cudnnDataType_t type;
    int64_t dim[4], stride[4]; /* N, C, H, W, whatever their order in memory */
    int64_t id, align;
    bool is_virtual;
};
/* y = f(alpha x * w + beta y + bias), or one of the gradients in its place. */
struct Conv {
    Direction direction;
    Tensor x, w, y, bias;
    int64_t pad[2], stride[2], dilation[2];
    bool flipped; /* CUDNN_CONVOLUTION: the window is turned over */
    bool has_bias, relu;
    float alpha, beta;
};
/* What makes an engine's arithmetic worse than a sum in f32. */
enum Flaw { NONE, TF32, ANY_ORDER, SHORT_SUMS };
struct Addresses {
    const void *x, *w, *y, *bias; /* one of x, w, y is written */
    void *workspace;
};
/* Sizes and types go together; why not is remembered. */
cudnnStatus_t examine(const Conv *c);
/* Elements from the first to the last. */
size_t span_of(const Tensor *t);
bool packed(const Tensor *t, bool nhwc);
/* Checks the addresses and puts the work on the stream. */
cudnnStatus_t enqueue(cudaStream_t stream, const char *what, const Conv *c, const Addresses *at, size_t workspace,
                      Flaw flaw);

/* ---- descriptors (dnn_desc.cpp) ---------------------------------------------------------------------------------- */

struct Descriptor;
struct Value {
    int name, type;
    int64_t count;
    void *data;     /* count values; descriptors are kept by what they hold */
    bool finalized; /* of descriptors: all were */
};
/* An engine of a graph, its configuration, or a plan of it. */
struct Engine {
    int index;
    uint32_t notes; /* bit i: numerical note i */
    size_t workspace;
    bool plannable;
    Flaw flaw;
};
struct Descriptor {
    uint32_t magic;
    int kind, holders;
    bool finalized;
    Value value[MAX_VALUES];
    int n;
    /* what finalize has made of them */
    Tensor tensor;
    Conv conv;
    bool pattern; /* of a graph: one that engines take */
    cudnnHandle_t handle;
    bool described; /* for a device by description */
    Engine engine[8];
    int engines;
};

Descriptor *live(cudnnBackendDescriptor_t d); /* NULL: not one */
const Value *value_of(const Descriptor *d, int name);
/* The only value of an attribute, or `missing`. */
int64_t int_of(const Descriptor *d, int name, int64_t missing);
/* Descriptor i of an attribute; NULL if it is not set, not of the kind, or was not finalized. */
const Descriptor *part_of(const Descriptor *d, int name, int kind, int64_t i = 0);

/* Makes of the attributes what the descriptor stands for (dnn_graph.cpp). */
cudnnStatus_t finalize(Descriptor *d);
/* Attributes that are made and not set: engines of heuristics, notes, workspace. */
cudnnStatus_t made_value(const Descriptor *d, int name, int type, int64_t max, int64_t *count, void *out);
bool is_made(int kind, int name);
void hold(Descriptor *d);
void let_go(Descriptor *d);
} // namespace dnn
#endif
