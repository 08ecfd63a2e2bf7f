/* Runs a quantised spiking network: C99, nothing but the standard library. A network is a list of
 * instructions, each of which makes a map from earlier maps. It comes from a packed file, which
 * the program cbp_net reads, or, without a file system, from a header that `python -m repro c`
 * writes: then compile with -DCBP_NO_MAIN. See docs/packed_format.md. */
#ifndef CBP_NET_H
#define CBP_NET_H
#include <stddef.h>
#include <stdint.h>

/* A map of one image, at all its time steps. Whole numbers lie as bits,
 * [steps][planes][height][width][words]: channel c is bit c % 32 of word c / 32, plane p counts
 * 2^p. Real numbers, planes 0, lie as [steps][channels][height][width]. */
typedef struct {
    uint32_t channels, height, width, steps; /* steps: T, or 1 where nothing changes over time */
    uint32_t planes; /* 0 to 8 */
    uint32_t at;     /* where it begins in cbp_memory.bits or, of real numbers, .reals */
} cbp_map;

enum { CBP_LAYER, CBP_AVERAGE, CBP_SUM, CBP_MAX, CBP_MEAN };
enum { CBP_NO_NEURON, CBP_IF, CBP_STBP, CBP_TSSL, CBP_PLIF, CBP_HARD };
enum { CBP_NO_JOIN, CBP_ADD, CBP_AND, CBP_IAND };

/* Instruction i makes map i + 1. Pointers are NULL where there is no such thing. */
typedef struct {
    uint32_t kind, source; /* source: number of a map; map 0 is the input */
    uint32_t height, width, stride, padding; /* of the kernel */
    uint32_t planes; /* of the codes, 1 to 8; 0 of real weights */
    int32_t least;   /* code = least + sum over planes j of 2^shifts[j] times bit j */
    uint8_t shifts[8];
    const uint32_t *codes; /* [outputs][planes][height][width][words] */
    const float *weight;   /* [outputs][channels][height][width] */
    const float *scale;    /* of code 1: [outputs] if scale_step is 1, [1] if it is 0 */
    uint32_t scale_step;
    const float *bias, *gain, *offset; /* [outputs]; the normalised current is gain x + offset */
    uint32_t neuron;
    float constants[4];   /* of the neuron, in the order of docs/packed_format.md */
    const float *initial; /* [outputs][map height][map width]: potential before the first step */
    float first;          /* the same of every neuron, where initial is NULL */
    uint32_t join, other; /* how a shortcut joins the spikes, and the number of its map */
} cbp_op;

typedef struct {
    uint32_t steps, op_count, classes;
    const cbp_map *maps; /* op_count + 1 */
    const cbp_op *ops;
    float kept, tau;    /* tau above 0: output spikes pass a synaptic filter before their sum */
    size_t bits, reals; /* elements of cbp_memory */
} cbp_net;

typedef struct { uint32_t *bits; float *reals; } cbp_memory;

/* Fills logits [classes] for one input: [channels][height][width] of a static image, [steps] of
 * them of frames. To spikes [op_count], if not NULL, the spikes of each instruction's neurons are
 * added. Returns the class, the lowest of those with the greatest logit. */
uint32_t cbp_run(const cbp_net *net, const float *input, cbp_memory memory, float *logits,
                 uint64_t *spikes);
#endif
