/* See cbp_net.h. Compile: cc -std=c99 -O2 -ffp-contract=off cbp_net.c -o cbp_net -lm */
#include "cbp_net.h"

#include <float.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "float arithmetic must round to float: on 32-bit x86, compile with -msse2 -mfpmath=sse"
#endif

static uint32_t words_of(const cbp_map *map) { return (map->channels + 31) / 32; }

/* Where channel c of a pixel lies among the bits of all maps. */
static size_t word_of(const cbp_map *map, size_t t, uint32_t p, uint32_t c, int64_t y, int64_t x) {
    size_t row = (t * map->planes + p) * map->height + (size_t)y;
    return map->at + (row * map->width + (size_t)x) * words_of(map) + c / 32;
}

static uint32_t whole(const cbp_map *map, const uint32_t *bits, size_t t, uint32_t c, int64_t y,
                      int64_t x) {
    uint32_t value = 0, p;
    for (p = 0; p < map->planes; p++)
        value |= (bits[word_of(map, t, p, c, y, x)] >> c % 32 & 1) << p;
    return value;
}

static uint32_t ones_in(uint32_t word) {
    word -= word >> 1 & 0x55555555u;
    word = (word & 0x33333333u) + (word >> 2 & 0x33333333u);
    return ((word + (word >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}

/* A place of the kernel on a map, and the part of the kernel that is inside. */
typedef struct {
    const cbp_op *op;
    const cbp_map *map;
    const uint32_t *bits; /* of all maps, as the next */
    const float *reals;
    int64_t y, x;
    uint32_t top, bottom, left, right;
} place;

static void inside(int64_t start, uint32_t kernel, uint32_t size, uint32_t *first, uint32_t *last) {
    int64_t end = (int64_t)size - start;
    *first = start < 0 ? (uint32_t)-start : 0;
    *last = end < 0 ? 0 : end < kernel ? (uint32_t)end : kernel;
    *first = *first > *last ? *last : *first;
}

/* Bits that the kernel's part of a plane has in common with weights; all its bits if NULL. */
static uint32_t common(const place *at, uint32_t t, uint32_t p, const uint32_t *weights) {
    uint32_t words = words_of(at->map), sum = 0, row, k, run = (at->right - at->left) * words;
    for (row = at->top; row < at->bottom && run > 0; row++) {
        const uint32_t *a = at->bits + word_of(at->map, t, p, 0, at->y + row, at->x + at->left);
        const uint32_t *b = a;
        if (weights != NULL)
            b = weights + ((size_t)row * at->op->width + at->left) * words;
        for (k = 0; k < run; k++)
            sum += ones_in(a[k] & b[k]);
    }
    return sum;
}

static int64_t sum_of_codes(const place *at, uint32_t t, uint32_t output, int64_t inputs) {
    const cbp_op *op = at->op;
    size_t size = (size_t)op->height * op->width * words_of(at->map);
    const uint32_t *weights = op->codes + output * op->planes * size;
    int64_t sum = op->least * inputs;
    uint32_t p, j;
    for (p = 0; p < at->map->planes; p++)
        for (j = 0; j < op->planes; j++)
            sum += (int64_t)common(at, t, p, weights + j * size) << (op->shifts[j] + p);
    return sum;
}

/* The sum of products of reals in the order of the weight's memory, rounded at every step. */
static float sum_of_products(const place *at, uint32_t t, uint32_t output) {
    const cbp_map *map = at->map;
    size_t size = (size_t)at->op->height * at->op->width;
    const float *weights = at->op->weight + output * map->channels * size;
    float sum = 0;
    uint32_t c, row, tap;
    for (c = 0; c < map->channels; c++, weights += size)
        for (row = at->top; row < at->bottom; row++)
            for (tap = at->left; tap < at->right; tap++) {
                size_t y = (size_t)(at->y + row), x = (size_t)(at->x + tap);
                size_t i = (((size_t)t * map->channels + c) * map->height + y) * map->width + x;
                float given = map->planes == 0 ? at->reals[map->at + i]
                              : (float)whole(map, at->bits, t, c, at->y + row, at->x + tap);
                sum += weights[row * at->op->width + tap] * given;
            }
    return sum;
}

/* Sum or maximum of a channel's whole numbers under the kernel. */
static uint32_t pooled(const place *at, uint32_t t, uint32_t c) {
    uint32_t value = 0, one, row, tap;
    for (row = at->top; row < at->bottom; row++)
        for (tap = at->left; tap < at->right; tap++) {
            one = whole(at->map, at->bits, t, c, at->y + row, at->x + tap);
            value = at->op->kind != CBP_MAX ? value + one : one > value ? one : value;
        }
    return value;
}

static float current(const place *at, uint32_t t, uint32_t output, int64_t inputs) {
    const cbp_op *op = at->op;
    float sum = 0;
    if (op->kind == CBP_MEAN) {
        for (t = 0; t < at->map->steps; t++)
            sum += (float)pooled(at, t, output); /* exact below 2^24 */
        return sum / (float)(t * op->height * op->width);
    }
    if (op->kind == CBP_AVERAGE)
        sum = (float)pooled(at, t, output) * 0.25f * op->scale[0];
    else if (op->codes != NULL)
        sum = (float)sum_of_codes(at, t, output, inputs) * op->scale[output * op->scale_step];
    else
        sum = sum_of_products(at, t, output);
    sum += op->bias == NULL ? 0.0f : op->bias[output];
    return op->gain == NULL ? sum : sum * op->gain[output] + op->offset[output];
}

/* Moves the state of a neuron on; returns whether it fires. */
static uint32_t fires(const cbp_op *op, float now, float *state) {
    const float *c = op->constants; /* the threshold comes first */
    float u = state[0] + now;
    switch (op->neuron) {
    case CBP_IF: u += c[1]; break; /* shift */
    case CBP_TSSL: /* kept by the synapse, weight of its output, leak; STBP: decay */
        state[1] = state[1] * c[1] + now;
        u = state[0] + (state[1] * c[2] - state[0] * c[3]);
        break;
    case CBP_PLIF: u = state[0] + (now - state[0]) * c[1]; break; /* leak */
    }
    uint32_t fired = op->neuron == CBP_STBP || op->neuron == CBP_TSSL ? u > c[0] : u >= c[0];
    float after = op->neuron == CBP_IF ? u - c[0] : 0.0f;
    state[0] = fired ? after : op->neuron == CBP_STBP ? c[1] * u : u;
    return fired;
}

/* Every place of a map at all its time steps, neurons behind it included. Returns their spikes. */
static uint64_t fill(const cbp_net *net, place *at, const cbp_map *out, cbp_memory memory) {
    const cbp_op *op = at->op;
    const cbp_map *other = net->maps + op->other;
    uint32_t *inputs = memory.bits + net->bits - net->steps, y, x, o, t, p, value = 0;
    size_t places = (size_t)out->channels * out->height * out->width;
    uint64_t spikes = 0;
    for (y = 0; y < out->height; y++)
        for (x = 0; x < out->width; x++) {
            at->y = (int64_t)y * op->stride - op->padding;
            at->x = (int64_t)x * op->stride - op->padding;
            inside(at->y, op->height, at->map->height, &at->top, &at->bottom);
            inside(at->x, op->width, at->map->width, &at->left, &at->right);
            for (t = 0; t < at->map->steps && op->codes != NULL; t++)
                for (inputs[t] = p = 0; p < at->map->planes; p++)
                    inputs[t] += common(at, t, p, NULL) << p;
            for (o = 0; o < out->channels; o++) {
                size_t i = ((size_t)o * out->height + y) * out->width + x;
                float now = 0, state[2] = {op->initial == NULL ? op->first : op->initial[i], 0};
                for (t = 0; t < out->steps; t++) {
                    if (op->kind == CBP_SUM || op->kind == CBP_MAX)
                        value = pooled(at, t, o);
                    else if (t < at->map->steps) /* else the current is constant */
                        now = current(at, t, o, op->codes != NULL ? inputs[t] : 0);
                    if (out->planes == 0)
                        memory.reals[out->at + t * places + i] = now;
                    if (op->neuron != CBP_NO_NEURON)
                        spikes += value = fires(op, now, state);
                    if (op->join == CBP_ADD)
                        value += whole(other, memory.bits, t, o, y, x);
                    else if (op->join != CBP_NO_JOIN)
                        value = value != (op->join == CBP_AND) ? 0
                                : whole(other, memory.bits, t, o, y, x);
                    for (p = 0; p < out->planes; p++)
                        memory.bits[word_of(out, t, p, o, y, x)] |= (value >> p & 1) << o % 32;
                }
            }
        }
    return spikes;
}

uint32_t cbp_run(const cbp_net *net, const float *input, cbp_memory memory, float *logits,
                 uint64_t *spikes) {
    const cbp_map *out = net->maps;
    uint32_t i, k, t, best = 0;
    for (i = 0; i < net->op_count; i++) {
        const cbp_map *map = net->maps + net->ops[i].source;
        const float *reals = map == net->maps ? input : memory.reals;
        place at = {net->ops + i, map, memory.bits, reals, 0, 0, 0, 0, 0, 0};
        out = net->maps + i + 1;
        if (out->planes > 0)
            memset(memory.bits + out->at, 0, (word_of(out, out->steps, 0, 0, 0, 0) - out->at) * 4);
        uint64_t fired = fill(net, &at, out, memory);
        if (spikes != NULL)
            spikes[i] += fired;
    }
    for (k = 0; k < net->classes; k++) {
        float synapse = 0;
        logits[k] = 0;
        for (t = 0; t < out->steps; t++) {
            float now = out->planes == 0 ? memory.reals[out->at + (size_t)t * net->classes + k]
                                         : (float)whole(out, memory.bits, t, k, 0, 0);
            synapse = synapse * net->kept + now;
            logits[k] += net->tau > 0 ? synapse / net->tau : now;
        }
        best = logits[k] > logits[best] ? k : best;
    }
    return best;
}

#ifndef CBP_NO_MAIN
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LARGEST = 1 << 28, SIDE = 1 << 12, CHANNELS = 1 << 16, TAPS = 1 << 22, OPS = 512 };

static const char *path; /* of the file that is read */
static const uint8_t *payload;
static size_t payload_size;
static char *instructions;
static uint32_t greatest_in[OPS + 1]; /* number in each map; 0 of real numbers */
static cbp_map maps[OPS + 1];
static cbp_op ops[OPS];
static cbp_net net = {0, 0, 0, maps, ops, 0, 0, 0, 0};

/* What does not hold ends the program with one line. Memory lasts until then. */
static void need(int holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "cbp_net: %s: %s\n", path, what);
    exit(2);
}

static void *zeros(size_t elements, size_t size) {
    void *made = elements > LARGEST ? NULL : calloc(elements + 1, size);
    need(made != NULL, "too large, or memory is short");
    return made;
}

static uint32_t turned(uint32_t word, int by) { return word >> by | word << (32 - by); }

static void sha256(const uint8_t *data, size_t size, char *hex) { /* FIPS 180-4 */
    static const uint32_t k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    };
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    size_t last = (size + 8) / 64, at, i;
    for (at = 0; at <= last; at++) {
        uint32_t w[64] = {0}, s[8], a, b;
        for (i = at * 64; i < at * 64 + 64 && i <= size; i++)
            w[i % 64 / 4] |= (i < size ? (uint32_t)data[i] : 0x80u) << (24 - 8 * (i % 4));
        w[15] |= at == last ? (uint32_t)size * 8 : 0; /* of files below 2^29 bytes */
        memcpy(s, h, sizeof s);
        for (i = 0; i < 64; i++) {
            if (i >= 16)
                w[i] = w[i - 16] + w[i - 7]
                       + (turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3)
                       + (turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10);
            a = (turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)) + (s[4] & s[5])
                + (~s[4] & s[6]) + s[7] + k[i] + w[i];
            b = (turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22))
                + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 7 * sizeof *s);
            s[4] += a;
            s[0] = a + b;
        }
        for (i = 0; i < 8; i++)
            h[i] += s[i];
    }
    for (i = 0; i < 8; i++)
        sprintf(hex + 8 * i, "%08x", (unsigned)h[i]);
}

/* Header and metadata are JSON objects of strings, without spaces. Returns the value of a key, or
 * NULL; text has room for any string of the object. */
static char *value_of(const char *object, const char *key, char *text) {
    const char *p = object;
    int found = 0, is_key = 1;
    for (; *p == (p == object ? '{' : is_key ? ',' : ':') && p[1] == '"'; is_key = !is_key) {
        char *out = text;
        for (p += 2; *p != '"'; *out++ = *p++) {
            p += *p == '\\';
            if ((unsigned char)*p < ' ')
                return NULL;
        }
        *out = 0;
        p++;
        if (found)
            return text;
        found = is_key && strcmp(text, key) == 0;
    }
    return NULL;
}

static const char *word(void) {
    const char *found = strtok(instructions, " ;");
    need(found != NULL, "the instructions end early");
    instructions = NULL; /* the rest is with strtok */
    return found;
}

static double number(double least, double most) {
    char *end;
    double value = strtod(word(), &end);
    need(*end == 0 && value >= least && value <= most, "a number of the instructions is wrong");
    return value;
}

static uint32_t count(uint32_t least, uint32_t most) { return (uint32_t)number(least, most); }

/* The next word says where a tensor begins in the payload. */
static const uint8_t *bytes(size_t size) {
    size_t at = count(0, LARGEST);
    need(size <= payload_size && at <= payload_size - size, "a tensor ends behind the file");
    return payload + at;
}

static float *floats(size_t elements) {
    return memcpy(zeros(elements, 4), bytes(4 * elements), 4 * elements); /* main: little-endian */
}

/* Level indices become bit planes of codes. */
static void read_codes(cbp_op *op, const cbp_map *in, uint32_t outputs) {
    uint32_t bits = count(1, 8), known = count(2, 1u << bits), all = 0, i, j;
    size_t taps = (size_t)op->height * op->width, words = words_of(in), k;
    size_t inputs = taps * in->channels, weights = outputs * inputs;
    const uint8_t *data = bytes((weights * bits + 7) / 8);
    uint32_t *codes, above[256] = {0};
    for (i = 0; i < known; i++) {
        int32_t code = (int32_t)number(-64, 64);
        op->least = i == 0 ? code : op->least;
        need(code >= op->least && in->planes > 0, "codes do not ascend, or the input is real");
        all |= above[i] = (uint32_t)(code - op->least);
    }
    for (op->planes = j = 0; j < 8; j++)
        if (all >> j & 1)
            op->shifts[op->planes++] = (uint8_t)j;
    op->codes = codes = zeros(outputs * op->planes * taps * words, sizeof *codes);
    for (k = 0; k < weights; k++) {
        size_t o = k / inputs, c = k / taps % in->channels, index = 0, bit = k * bits;
        for (j = 0; j < bits; j++, bit++)
            index |= (size_t)(data[bit / 8] >> bit % 8 & 1) << j;
        need(index < known, "a level index is beyond the levels");
        for (j = 0; j < op->planes; j++)
            codes[((o * op->planes + j) * taps + k % taps) * words + c / 32]
                |= (above[index] >> op->shifts[j] & 1) << c % 32;
    }
}

/* Sizes of the map of an instruction that is complete, and of the memory. */
static void place_map(uint32_t i) {
    cbp_op *op = ops + i;
    cbp_map *map = maps + i + 1, *other = maps + op->other;
    uint64_t greatest = greatest_in[op->source];
    int feeds = op->kind == CBP_LAYER || op->kind == CBP_AVERAGE;
    need((op->kind == CBP_LAYER ? op->weight != NULL || op->codes != NULL : greatest > 0)
         && (op->scale != NULL || (op->codes == NULL && op->kind != CBP_AVERAGE))
         && (feeds || op->neuron == CBP_NO_NEURON), "weights, scales or neurons do not fit");
    greatest *= op->kind == CBP_SUM ? op->height * op->width : 1;
    if (op->kind == CBP_MEAN || feeds)
        greatest = op->neuron != CBP_NO_NEURON;
    map->steps = op->kind == CBP_MEAN ? 1 : feeds && greatest > 0 ? net.steps : map->steps;
    if (op->join != CBP_NO_JOIN) {
        need(greatest > 0 && op->other <= i && other->planes > 0
             && memcmp(other, map, 4 * sizeof map->steps) == 0, "a shortcut is wrong"); /* sizes */
        greatest = greatest_in[op->other] + (op->join == CBP_ADD);
    }
    need(greatest <= 255, "sums of spikes are above 255");
    for (greatest_in[i + 1] = (uint32_t)greatest; greatest > 0; greatest /= 2)
        map->planes++;
    uint64_t size = map->planes > 0 ? (uint64_t)map->planes * words_of(map) : map->channels;
    size = size * map->height * map->width * map->steps + map->at; /* below 2^64: see the enum */
    need(size <= LARGEST, "the maps are too large");
    if (size > (map->planes > 0 ? net.bits : net.reals))
        *(map->planes > 0 ? &net.bits : &net.reals) = (size_t)size;
}

static uint32_t among(const char *name, const char *const *names, uint32_t size) {
    uint32_t i = 0;
    for (; i < size && strcmp(name, names[i]) != 0; i++) {}
    return i;
}

/* What stands behind an instruction: weights, neurons, a shortcut. */
static void read_part(cbp_op *op, const cbp_map *out, const char *name) {
    static const char *const parts[] = {"weight", "codes", "scale", "scales", "bias", "norm",
        "initial", "first", "if", "stbp", "tssl", "plif", "hard", "add", "and", "iand"};
    static const uint8_t constants[] = {2, 2, 4, 2, 1};
    const cbp_map *in = maps + op->source;
    uint32_t part = among(name, parts, 16), o = out->channels, i;
    float given, *made[4];
    switch (part) {
    case 0: op->weight = floats((size_t)o * in->channels * op->height * op->width); break;
    case 1: read_codes(op, in, o); break;
    case 2: case 3: /* scales: one for each output, of a level that so many codes make */
        given = (float)number(0, FLT_MAX);
        op->scale = made[0] = part == 2 ? zeros(1, sizeof **made) : floats(o);
        op->scale_step = part - 2;
        for (i = 0; i < (part == 2 ? 1 : o); i++)
            made[0][i] = part == 2 ? given : made[0][i] / given;
        break;
    case 4: op->bias = floats(o); break;
    case 5: /* epsilon; weight, bias, mean, variance */
        given = (float)number(0, FLT_MAX);
        for (i = 0; i < 4; i++)
            made[i] = floats(o);
        for (i = 0; i < o; i++) {
            made[0][i] *= 1.0f / sqrtf(made[3][i] + given);
            made[1][i] -= made[2][i] * made[0][i];
        }
        op->gain = made[0];
        op->offset = made[1];
        break;
    case 6: op->initial = floats((size_t)o * out->height * out->width); break;
    case 7: op->first = (float)number(-FLT_MAX, FLT_MAX); break;
    case 13: case 14: case 15:
        op->join = part - 13 + CBP_ADD;
        op->other = count(1, OPS);
        break;
    default:
        need(part < 13, "unknown instructions: read the file with the program of its version");
        op->neuron = part - 8 + CBP_IF;
        for (i = 0; i < constants[part - 8]; i++)
            op->constants[i] = (float)number(-FLT_MAX, FLT_MAX);
    }
}

static void read_instructions(void) {
    static const char *const kinds[] = {"layer", "average", "sum", "max", "mean"};
    cbp_map *map = maps;
    cbp_op *op = NULL;
    uint32_t n = 0, kind, outputs;
    const char *name;
    need(strcmp(word(), "steps") == 0, "the instructions do not begin with steps");
    net.steps = count(1, SIDE);
    map->steps = strcmp(word(), "frames") == 0 ? net.steps : 1;
    map->channels = count(1, CHANNELS);
    map->height = count(1, SIDE);
    map->width = count(1, SIDE);
    need((uint64_t)map->steps * map->channels * map->height * map->width <= LARGEST, "too large");
    while (strcmp(name = word(), "read") != 0) {
        if ((kind = among(name, kinds, 5)) > CBP_MEAN) {
            need(op != NULL, "something stands before the first instruction");
            read_part(op, map, name);
            continue;
        }
        if (op != NULL)
            place_map(n++);
        need(n < OPS, "too many instructions");
        op = ops + n;
        op->kind = kind;
        op->source = count(0, n);
        *(map = maps + n + 1) = maps[op->source];
        map->planes = 0;
        map->at = count(0, LARGEST);
        op->height = count(1, SIDE);
        op->width = count(1, SIDE);
        op->stride = count(1, SIDE);
        op->padding = count(0, SIDE);
        outputs = kind == CBP_LAYER ? count(1, CHANNELS) : map->channels;
        need(op->height * op->width <= TAPS / map->channels
             && op->height * op->width * map->channels <= LARGEST / outputs
             && map->height + 2 * op->padding >= op->height
             && map->width + 2 * op->padding >= op->width, "a kernel is too large");
        map->height = (map->height + 2 * op->padding - op->height) / op->stride + 1;
        map->width = (map->width + 2 * op->padding - op->width) / op->stride + 1;
        map->channels = outputs;
    }
    need(op != NULL && map->height == 1 && map->width == 1, "no row of classes at the end");
    place_map(n++);
    net.op_count = n;
    net.classes = map->channels;
    net.kept = (float)number(0, 1);
    net.tau = (float)number(0, FLT_MAX);
    net.bits += net.steps; /* sums of inputs, one a step */
}

/* Checks the file as docs/packed_format.md says; returns its instructions. */
static char *read_file(void) {
    FILE *file = fopen(path, "rb");
    char *data, *text, *words, digest[65] = "";
    long end = file != NULL && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    size_t size = end < 0 ? 0 : (size_t)end, start = 0, i;
    need(size > 99 && size <= LARGEST, "no packed file: cannot be opened, too short or too large");
    data = zeros(size + 1, 1);
    rewind(file);
    need(fread(data, 1, size, file) == size, "cannot be read");
    fclose(file);
    need(memcmp(data + 8, "{\"__metadata__\":{\"sha256\":\"", 27) == 0,
         "not a cbp-qsnn-packed file, or damaged");
    memcpy(digest, data + 35, 64);
    memset(data + 35, '0', 64);
    for (i = 8; i-- > 0 && start <= LARGEST;)
        start = start << 8 | (uint8_t)data[i];
    need(start <= size - 8, "truncated or damaged, the header ends behind the file");
    payload = (uint8_t *)data + 8 + start;
    payload_size = size - 8 - start;
    text = zeros(size + 65, 1);
    words = zeros(size + 1, 1);
    sha256((uint8_t *)data, size, text);
    need(memcmp(text, digest, 64) == 0, "damaged, its sha256 is not the one written in it");
    need(value_of(data + 24, "metadata", text) != NULL, "the header is damaged");
    need(value_of(text, "network", words) != NULL, "has no instructions for this program: "
         "write a file with them by python -m repro c FILE --out DIR");
    return words;
}

int main(int argc, char **argv) {
    FILE *images = argc > 2 ? fopen(argv[2], "rb") : NULL;
    path = argc > 2 ? argv[2] : "usage: cbp_net FILE IMAGES [-v]";
    need(images != NULL && *(const char *)&(const int){1} == 1, "IMAGES must be float32, lowest "
         "byte first, on a machine with that order");
    path = argv[1];
    instructions = read_file();
    read_instructions();
    size_t size = (size_t)maps->steps * maps->channels * maps->height * maps->width, got, i;
    float *image = zeros(size, sizeof *image), *logits = zeros(net.classes, sizeof *logits);
    uint64_t *spikes = zeros(net.op_count, sizeof *spikes);
    cbp_memory memory = {zeros(net.bits, 4), zeros(net.reals, 4)};
    path = argv[2];
    while ((got = fread(image, sizeof *image, size, images)) > 0) {
        need(got == size, "the last input is not whole: the network takes others");
        printf("%lu", (unsigned long)cbp_run(&net, image, memory, logits, spikes));
        for (i = 0; i < net.classes && argc > 3; i++)
            printf(" %a", (double)logits[i]);
        putchar('\n');
    }
    for (i = 0; i < net.op_count && argc > 3; i++)
        printf("spikes %lu\n", (unsigned long)spikes[i]);
    need(!ferror(images) && fflush(stdout) == 0, "cannot be read, or the classes not written");
    return 0;
}
#endif
