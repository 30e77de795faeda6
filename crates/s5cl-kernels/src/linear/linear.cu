// What a linear layer needs beside products of matrices: rows that start as the bias, and the sum
// of all rows as its gradient.
//
// Grid: one thread for each value; sums: blocks of 32 columns. Block: 256 threads, which lie as 8
// lanes of rows on the columns. Shared: 256 doubles. Sums in f64, in an order that depends on the
// shape alone.
#include "device.cuh"

constexpr unsigned THREADS = 256, COLUMNS = 32, LANES = THREADS / COLUMNS;

KERNEL(256) fill_rows(const float* row, float* out, uint32_t columns, uint64_t n) {
    const uint64_t index = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (index < n) out[index] = row[index % columns];
}
EXPORT(fill_rows);

KERNEL(256) sum_rows(const float* values, float* out, uint64_t rows, uint32_t columns) {
    __shared__ double scratch[LANES][COLUMNS];
    const unsigned of_block = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    const unsigned column = blockIdx.x * COLUMNS + of_block;
    double sum = 0.0;
    if (column < columns) {
#pragma unroll 4
        for (uint64_t row = lane; row < rows; row += LANES) sum += double(values[row * columns + column]);
    }
    scratch[lane][of_block] = sum;
    __syncthreads();
    if (lane > 0 || column >= columns) return;
    for (unsigned other = 1; other < LANES; ++other) sum += scratch[other][of_block];
    out[column] = float(sum);
}
EXPORT(sum_rows);
