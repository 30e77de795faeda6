// Weights of convolutions between [outputs, inputs, taps] in f32, as they are trained, and [outputs,
// taps, inputs] in the type of the maps, as the convolutions of channels-last maps take them; all of
// a network at once.
//
// Grid: for each weight, blocks of 128 inputs of an output. Block: 128 threads, one an input.
// Shared: none. Nothing is summed.
#include "device.cuh"

constexpr unsigned THREADS = 128, MOST = 80;

// A weight in both orders. Inputs beyond `inputs` are zero on the device, and there to fill vectors.
// Unless it is null, `scale` is a factor for each output.
struct Weight {
    float* trained;
    void* stored;
    const float* scale;
    uint32_t outputs, inputs, taps, padded_inputs, first_block, unused;
};

// All that a launch takes within the 4 KiB that every driver allows it.
struct Weights {
    Weight of[MOST];
    uint64_t n;
};

// Calls `move(weight, output, input)` for what this thread moves.
template <class Work> DEVICE void for_own(const Weights& weights, Work move) {
    unsigned which = 0;
    while (which + 1 < weights.n && weights.of[which + 1].first_block <= blockIdx.x) ++which;
    const Weight& weight = weights.of[which];
    const unsigned block = blockIdx.x - weight.first_block;
    const unsigned blocks = ceil_div(weight.padded_inputs, THREADS);
    const unsigned input = block % blocks * THREADS + threadIdx.x;
    if (input < weight.padded_inputs) move(weight, block / blocks, input);
}

template <class T> DEVICE void pack_weights(const Weights& weights) {
    for_own(weights, [](const Weight& weight, size_t output, unsigned input) {
        const bool is_there = input < weight.inputs;
        const float scale = weight.scale ? weight.scale[output] : 1.0f;
        const float* from = weight.trained + (output * weight.inputs + input) * weight.taps;
        T* to = static_cast<T*>(weight.stored) + output * weight.taps * weight.padded_inputs + input;
        // More at a time take more registers than the compiler has for them.
#pragma unroll 2
        for (unsigned tap = 0; tap < weight.taps; ++tap) {
            to[size_t(tap) * weight.padded_inputs] = from_float<T>(is_there ? from[tap] * scale : 0.0f);
        }
    });
}

template <class T> DEVICE void unpack_weights(const Weights& weights) {
    for_own(weights, [](const Weight& weight, size_t output, unsigned input) {
        if (input >= weight.inputs) return;
        float* to = weight.trained + (output * weight.inputs + input) * weight.taps;
        const T* from =
            static_cast<const T*>(weight.stored) + output * weight.taps * weight.padded_inputs + input;
        for (unsigned tap = 0; tap < weight.taps; ++tap) {
            to[tap] = to_float(from[size_t(tap) * weight.padded_inputs]);
        }
    });
}

#define WEIGHTS(suffix, T)                                                                         \
    KERNEL(128) pack_weights_##suffix(const __grid_constant__ Weights weights) {                   \
        pack_weights<T>(weights);                                                                  \
    }                                                                                              \
    EXPORT(pack_weights_##suffix);                                                                 \
    KERNEL(128) unpack_weights_##suffix(const __grid_constant__ Weights weights) {                 \
        unpack_weights<T>(weights);                                                                \
    }                                                                                              \
    EXPORT(unpack_weights_##suffix);
WEIGHTS(f32, float)
WEIGHTS(bf16, bf16)
WEIGHTS(f16, f16)
