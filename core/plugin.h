/* plugin.h - the handshake of a backend that is opened at run time. Seen by core and the plugin only. */
#ifndef QN_CORE_PLUGIN_H
#define QN_CORE_PLUGIN_H
#include "backend.h"

/* What a plugin exports as qn__cuda_plugin. Core compares everything but `backend` with its own before it calls
 * anything. The first two fields stay where they are for ever. */
enum { QN_PLUGIN_ABI = 1 };
struct qn__plugin {
    uint32_t abi, bytes;            /* QN_PLUGIN_ABI, sizeof (struct qn__plugin)                  */
    uint32_t step_bytes, api_bytes; /* of struct qn__step and struct qn__device_api               */
    const char *version;            /* QN_VERSION                                                 */
    const char *operators;          /* the rows of ops.def; vocabularies are told apart by its hash */
    const struct qn__backend *backend;
};

#define OP(name, n_in, meaning) #name " " #n_in "\n"
static const char qn__operators[] =
#include "ops.def"
    ;
#undef OP
#undef PW
#endif
