/* gpu.h - the GPU that tests run kernels on: that of the plugin in QN_CUDA_PLUGIN, else the simulator's of this
 * build. */
#ifndef QN_TESTS_LIB_GPU_H
#define QN_TESTS_LIB_GPU_H
#include "drive.h"

/* Opened once for the program; NULL if this build has no plugin. Ends the program with a line if there is one that
 * cannot be opened. Its memory has guards unless the plugin is the checking one, which sees what they would hide. */
const struct drive_on *gpu_open(void);
void gpu_close(void);
#endif
