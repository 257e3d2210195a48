/* The calls of CUDA's driver and of cuBLAS that encircle makes, on ordinary memory, as NVIDIA's
 * documentation describes them. It says on stderr what it is asked, so that a test sees it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t pointer;

int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = 0; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)1; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxGetCurrent(void **context) { *context = NULL; return 0; }
int cuCtxSetCurrent(void *context) { return 0; }
int cuStreamSynchronize(void *stream) { return 0; }

int cuMemAlloc_v2(pointer *out, size_t bytes) {
    /* What a device's memory holds at first is anybody's guess. */
    void *memory = malloc(bytes);
    memset(memory, 0xff, bytes);
    *out = (pointer)memory;
    fprintf(stderr, "held\n");
    return memory ? 0 : 2;
}
int cuMemFree_v2(pointer memory) { free((void *)memory); fprintf(stderr, "freed\n"); return 0; }
int cuMemcpyHtoDAsync_v2(pointer to, const void *from, size_t bytes, void *stream) {
    memcpy((void *)to, from, bytes);
    return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, pointer from, size_t bytes, void *stream) {
    memcpy(to, (void *)from, bytes);
    return 0;
}

int cublasCreate_v2(void **handle) { *handle = (void *)1; return 0; }
int cublasDestroy_v2(void *handle) { return 0; }
int cublasSetStream_v2(void *handle, void *stream) { return 0; }

/* c = alpha op(a) op(b) + beta c, all of them stored column by column; op 0 takes a matrix as it is,
 * op 1 transposed. With beta 0, c is not read. */
int cublasSgemm_v2(void *handle, int op_a, int op_b, int m, int n, int k, const float *alpha,
                   const float *a, int lda, const float *b, int ldb, const float *beta, float *c,
                   int ldc) {
    fprintf(stderr, "sgemm %d %d %d\n", m, n, k);
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < m; i++) {
            double sum = 0;
            for (int p = 0; p < k; p++) {
                float x = op_a ? a[(size_t)i * lda + p] : a[(size_t)p * lda + i];
                float y = op_b ? b[(size_t)p * ldb + j] : b[(size_t)j * ldb + p];
                sum += (double)x * y;
            }
            float *out = &c[(size_t)j * ldc + i];
            *out = (float)(*alpha * sum) + (*beta == 0 ? 0 : *beta * *out);
        }
    }
    return 0;
}
