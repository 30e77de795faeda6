// The mean cross entropy of rows of logits, and its gradient, on CUDA devices.
//
// Grid: 1 block. Block: 512 threads; a warp takes every 16th row. Shared: 32 doubles.
// Sums over a row in f32, over the rows in f64, in an order that depends on the shapes alone.
#include "device.cuh"

// What a maximum of nothing starts from; minus infinity less itself would be no number.
constexpr float LOWEST = -3.402823466e38f;

// `gradient` may be null. A label that is not below `classes` gives NaN.
KERNEL(512) cross_entropy(const float* __restrict__ logits, const uint32_t* __restrict__ labels,
                           float* __restrict__ loss, float* __restrict__ gradient, uint32_t rows,
                           uint32_t classes, float smoothing) {
    __shared__ double scratch[WARP_SIZE];
    const unsigned lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
    const float own = 1.0f - smoothing, spread = smoothing / float(classes);
    double sum_of_losses = 0.0;
    for (uint32_t row = warp; row < rows; row += blockDim.x / WARP_SIZE) {
        const float* of_row = logits + size_t(row) * classes;
        const uint32_t label = labels[row];
        float largest = LOWEST;
        for (uint32_t k = lane; k < classes; k += WARP_SIZE) largest = fmaxf(largest, of_row[k]);
        largest = warp_max(largest);
        float sum = 0.0f, all = 0.0f;
        for (uint32_t k = lane; k < classes; k += WARP_SIZE) {
            // The difference first: its logarithm must not be lost beside a large logit.
            sum += expf(of_row[k] - largest);
            // A class that was ruled out by minus infinity costs nothing without smoothing.
            if (smoothing > 0.0f) all += largest - of_row[k];
        }
        const float log_sum = logf(warp_sum(sum));
        if (smoothing > 0.0f) all = warp_sum(all);
        if (lane == 0) {
            float of_label = label < classes ? of_row[label] : __uint_as_float(0x7fc00000u);
            sum_of_losses += double(own) * double(log_sum + (largest - of_label));
            if (smoothing > 0.0f) sum_of_losses += double(spread) * (double(classes) * log_sum + all);
        }
        if (gradient) {
            for (uint32_t k = lane; k < classes; k += WARP_SIZE) {
                const float share = expf(of_row[k] - largest - log_sum);
                const float target = spread + (k == label ? own : 0.0f);
                gradient[size_t(row) * classes + k] = (share - target) / float(rows);
            }
        }
    }
    const double total = block_sum(sum_of_losses, scratch);
    if (threadIdx.x == 0) *loss = float(total / double(rows));
}
EXPORT(cross_entropy);
