#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "model/gemma3n/model.hpp"

// The forward pass of Gemma 3n, after transformers' modeling_gemma3n.py, whose names it keeps. T tokens are computed
// together; every step is either one or more products with weight matrices (Compute::linear) or work on each token.
namespace gemlet {
namespace {

void embedding_row(const Compute& compute, const Matrix& table, std::size_t row, float scale, float* out) {
  compute.kernels().weights[static_cast<std::size_t>(table.type)].dequantize(table.row(row), out, table.cols);
  compute.kernels().scale(scale, out, table.cols);
}

float square_root(std::size_t n) { return std::sqrt(static_cast<float>(n)); }

}  // namespace

void Gemma3n::forward(std::span<const Segment> segments, Activations& activations, float* out, const Cancel* cancel,
                      const LayerTrace& trace) const {
  auto& s = static_cast<Gemma3nActivations&>(activations);
  s.begin(segments);
  embed(s);
  per_layer_inputs(s);
  altup_expand(s);
  const std::size_t first_shared = config_.shape.first_shared_layer();
  for (std::size_t i = 0; i < config_.shape.layers.size(); ++i) {
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
      throw Error(Error::Kind::cancelled, "the computation was cancelled");
    }
    if (i == first_shared) s.keep_wanted();
    if (s.tokens() == 0) break;
    layer(i, s);
    if (trace) trace(i, {s.streams.data(), config_.altup_num_inputs * s.tokens() * s.hidden});
  }
  s.keep_wanted();
  altup_collapse(s);
  logits(s, out);
  for (const Segment& segment : segments) segment.cache->advance(segment.tokens.size());
}

// Stream 0 [T][hidden]: the token's row * sqrt(hidden), or a picture's or sound's as it is.
void Gemma3n::embed(Gemma3nActivations& s) const {
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    const Batch::Row& row = s.batch[t];
    if (row.embedding != nullptr) {
      std::copy_n(row.embedding, s.hidden, s.stream(0, t));
    } else {
      embedding_row(s.compute, weights_->embed_tokens, static_cast<std::size_t>(row.token), square_root(s.hidden),
                    s.stream(0, t));
    }
  });
}

// per_layer_inputs [T][layers of the file][ple]: (norm(projection / sqrt(hidden)) + embedding * sqrt(ple)) / sqrt(2).
void Gemma3n::per_layer_inputs(Gemma3nActivations& s) const {
  const FileRows& table = weights_->embed_tokens_per_layer;
  const kernels::WeightKernels& stored = s.compute.kernels().weights[static_cast<std::size_t>(table.type())];
  const std::size_t cols = table.cols();
  const std::size_t width = config_.hidden_size_per_layer_input;
  const kernels::Kernels& k = s.compute.kernels();
  s.fetch_per_layer_rows(table);  // from a slow disk they come while the projection is computed
  linear(s.compute, s.batch, {{weights_->per_layer_model_projection, s.per_layer_inputs.data()}}, s.stream(0, 0));
  s.read_per_layer_rows(table);
  s.compute.each_token(s.tokens(), [&](std::size_t t, std::size_t thread) {
    float* embedding = s.per_layer_embedding.data() + thread * cols;
    stored.dequantize(s.per_layer_rows.data() + t * table.row_bytes(), embedding, cols);
    k.scale(square_root(width), embedding, cols);
    float* inputs = s.per_layer_input(0, t);
    k.scale(1.0F / square_root(s.hidden), inputs, cols);
    for (std::size_t i = 0; i < cols; i += width) {
      k.rms_norm(inputs + i, weights_->per_layer_projection_norm.data(), config_.rms_norm_eps, inputs + i, width);
    }
    k.add(embedding, inputs, cols);
    k.scale(1.0F / std::numbers::sqrt2_v<float>, inputs, cols);
  });
}

// Streams 1.. are projections of stream 0, brought to its magnitude.
void Gemma3n::altup_expand(Gemma3nActivations& s) const {
  for (std::size_t i = 1; i < config_.altup_num_inputs; ++i) {
    linear(s.compute, s.batch, {{weights_->altup_projections[i - 1], s.stream(i, 0)}}, s.stream(0, 0));
  }
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    for (std::size_t i = 1; i < config_.altup_num_inputs; ++i) match_magnitude(s.stream(0, t), s.stream(i, t), s);
  });
}

void Gemma3n::layer(std::size_t index, Gemma3nActivations& s) const {
  const Gemma3nLayerWeights& w = weights_->layers[config_.shape.layers[index].file_index];
  altup_predict(w, s);
  attention(index, w, s);
  feed_forward(index, w, s);
  altup_correct(w, s);
  per_layer_gate(index, w, s);
}

// predictions[j] = streams[j] + sum_i coefs[j][i] * streams[i], coefs = prediction_coefs . modalities.
void Gemma3n::altup_predict(const Gemma3nLayerWeights& w, Gemma3nActivations& s) const {
  const kernels::Kernels& k = s.compute.kernels();
  const std::size_t n = config_.altup_num_inputs;
  const std::size_t hidden = s.hidden;
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    std::array<float, max_altup_inputs> modalities;
    float* normed = s.normed.data() + t * hidden;
    route(w, s.stream(config_.altup_active_idx, t), modalities.data(), normed, s);
    const float* coefs = w.prediction_coefs.data();
    for (std::size_t j = 0; j < n; ++j) {
      std::copy_n(s.stream(j, t), hidden, s.prediction(j, t));
      for (std::size_t i = 0; i < n; ++i, coefs += n) {
        float coef = 0;
        for (std::size_t m = 0; m < n; ++m) coef += coefs[m] * modalities[m];
        k.axpy(coef, s.stream(i, t), s.prediction(j, t), hidden);
      }
    }
    k.rms_norm(s.prediction(config_.altup_active_idx, t), w.input_layernorm.data(), config_.rms_norm_eps, normed,
               hidden);
  });
}

// residual = (prediction + norm(attention) + laurel) / sqrt(2), with attention and laurel of `normed`.
void Gemma3n::attention(std::size_t index, const Gemma3nLayerWeights& w, Gemma3nActivations& s) const {
  const LayerShape& layer = config_.shape.layers[index];
  const kernels::Kernels& k = s.compute.kernels();
  const std::size_t hidden = s.hidden;
  const std::size_t dim = config_.head_dim;
  const std::size_t heads = config_.shape.num_attention_heads;
  const std::size_t kv_heads = config_.num_key_value_heads;

  if (layer.owns_kv()) {
    linear(
        s.compute, s.batch,
        {{w.q_proj, s.q.data()}, {w.k_proj, s.k.data()}, {w.v_proj, s.v.data()}, {w.laurel_left, s.laurel_low.data()}},
        s.normed.data());
  } else {
    linear(s.compute, s.batch, {{w.q_proj, s.q.data()}, {w.laurel_left, s.laurel_low.data()}}, s.normed.data());
  }
  linear(s.compute, s.batch, {{w.laurel_right, s.laurel.data()}}, s.laurel_low.data());

  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    const Batch::Row& row = s.batch[t];
    const float* cos = s.batch.cos(layer, t);
    const float* sin = s.batch.sin(layer, t);
    for (std::size_t h = 0; h < heads; ++h) {
      float* q = s.q.data() + (t * heads + h) * dim;
      k.rms_norm(q, w.q_norm.data(), config_.rms_norm_eps, q, dim);
      k.rope(q, cos, sin, dim);
    }
    if (layer.owns_kv()) {
      for (std::size_t h = 0; h < kv_heads; ++h) {
        float* key = s.k.data() + (t * kv_heads + h) * dim;
        float* value = s.v.data() + (t * kv_heads + h) * dim;
        k.rms_norm(key, w.k_norm.data(), config_.rms_norm_eps, key, dim);
        k.rope(key, cos, sin, dim);
        k.rms_norm(value, nullptr, config_.rms_norm_eps, value, dim);
        row.cache->store(k, layer.file_index, row.position, h, key, value);
      }
    }
    s.queries[t] = s.batch.query(layer, t);

    float* laurel = s.laurel.data() + t * hidden;
    k.rms_norm(laurel, w.post_laurel_norm.data(), config_.rms_norm_eps, laurel, hidden);
    k.add(s.normed.data() + t * hidden, laurel, hidden);
  });

  gemlet::attention(s.compute, {.layer = layer.kv_source, .heads = heads}, s.queries, s.q.data(), s.attended.data());
  linear(s.compute, s.batch, {{w.o_proj, s.projected.data()}}, s.attended.data());
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    float* residual = s.residual.data() + t * hidden;
    k.rms_norm(s.projected.data() + t * hidden, w.post_attention_layernorm.data(), config_.rms_norm_eps, residual,
               hidden);
    k.add(s.prediction(config_.altup_active_idx, t), residual, hidden);
    k.add(s.laurel.data() + t * hidden, residual, hidden);
    k.scale(1.0F / std::numbers::sqrt2_v<float>, residual, hidden);
    k.rms_norm(residual, w.pre_feedforward_layernorm.data(), config_.rms_norm_eps, s.normed.data() + t * hidden,
               hidden);
  });
}

// residual += norm(down(gelu(top-k(gate)) * up)).
void Gemma3n::feed_forward(std::size_t index, const Gemma3nLayerWeights& w, Gemma3nActivations& s) const {
  const LayerShape& layer = config_.shape.layers[index];
  const kernels::Kernels& k = s.compute.kernels();
  const std::size_t hidden = s.hidden;
  const std::size_t width = layer.intermediate_size;
  // A MatFormer slice is the first `width` units: rows of gate and up, columns of down.
  const Matrix gate_proj = w.gate_proj.first_rows(width);
  const Matrix up_proj = w.up_proj.first_rows(width);
  if (config_.is_sparse(layer.file_index)) {
    linear(s.compute, s.batch, {{gate_proj, s.gate.data()}}, s.normed.data());
    sparse_units(layer, up_proj, s);
  } else {
    linear(s.compute, s.batch, {{gate_proj, s.gate.data()}, {up_proj, s.up.data()}}, s.normed.data());
    s.compute.each_token(s.tokens(),
                         [&](std::size_t t) { k.gelu_mul(s.gate.data() + t * width, s.up.data() + t * width, width); });
  }
  if (w.down_proj_t.data != nullptr) {
    s.compute.combine_rows(w.down_proj_t.first_rows(width), {s.live.data(), s.live_counts.data()}, s.live_gate.data(),
                           s.tokens(), s.projected.data());
  } else {
    linear(s.compute, s.batch, {{w.down_proj.first_cols(width), s.projected.data()}}, s.gate.data());
  }
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    float* out = s.projected.data() + t * hidden;
    k.rms_norm(out, w.post_feedforward_layernorm.data(), config_.rms_norm_eps, out, hidden);
    k.add(out, s.residual.data() + t * hidden, hidden);
  });
}

// gate = gelu(top-k(gate)) * up, where only those rows of `up` are computed whose gate is not zero: about one in
// twenty. They are also left as a list: unit live[i] has the value live_gate[i].
void Gemma3n::sparse_units(const LayerShape& layer, const Matrix& up_proj, Gemma3nActivations& s) const {
  const kernels::Kernels& k = s.compute.kernels();
  const std::size_t width = layer.intermediate_size;
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    float* gate = s.gate.data() + t * width;
    std::uint32_t* live = s.live.data() + t * width;
    float* live_gate = s.live_gate.data() + t * width;
    k.gaussian_topk(gate, config_.activation_sparsity_scale[layer.file_index], width);
    std::size_t n = 0;
    for (std::uint32_t i = 0; i < width; ++i) {
      if (gate[i] == 0) continue;
      live[n] = i;
      live_gate[n++] = gate[i];
    }
    s.live_counts[t] = n;
  });
  if (s.batch.has_adapters()) {
    linear(s.compute, s.batch, {{up_proj, s.up.data()}}, s.normed.data());
    s.compute.each_token(s.tokens(), [&](std::size_t t) {
      float* up = s.up.data() + t * width;
      for (std::size_t i = 0; i < s.live_counts[t]; ++i) up[i] = up[s.live[t * width + i]];
    });
  } else {
    s.compute.linear_rows(up_proj, {s.live.data(), s.live_counts.data()}, s.normed.data(), s.tokens(), s.up.data());
  }
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    const std::uint32_t* live = s.live.data() + t * width;
    float* live_gate = s.live_gate.data() + t * width;
    k.gelu_mul(live_gate, s.up.data() + t * width, s.live_counts[t]);
    for (std::size_t i = 0; i < s.live_counts[t]; ++i) s.gate[t * width + live[i]] = live_gate[i];
  });
}

// streams[i] = predictions[i] + (1 + coefs[i]) * (residual - predictions[active]), coefs = correction_coefs .
// modalities; normed = streams[active] * correct_output_scale.
void Gemma3n::altup_correct(const Gemma3nLayerWeights& w, Gemma3nActivations& s) const {
  const kernels::Kernels& k = s.compute.kernels();
  const std::size_t n = config_.altup_num_inputs;
  const std::size_t hidden = s.hidden;
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    std::array<float, max_altup_inputs> modalities;
    float* innovation = s.residual.data() + t * hidden;
    float* normed = s.normed.data() + t * hidden;
    route(w, innovation, modalities.data(), normed, s);
    k.axpy(-1.0F, s.prediction(config_.altup_active_idx, t), innovation, hidden);
    for (std::size_t i = 0; i < n; ++i) {
      float coef = 0;
      for (std::size_t m = 0; m < n; ++m) coef += w.correction_coefs[i * n + m] * modalities[m];
      std::copy_n(s.prediction(i, t), hidden, s.stream(i, t));
      k.axpy(coef + 1.0F, innovation, s.stream(i, t), hidden);
    }
    std::copy_n(s.stream(config_.altup_active_idx, t), hidden, normed);
    k.mul(w.correct_output_scale.data(), normed, hidden);
  });
}

// streams[1:] += norm(projection(gelu(gate(normed)) * per_layer_input)); stream 0 is left alone.
void Gemma3n::per_layer_gate(std::size_t index, const Gemma3nLayerWeights& w, Gemma3nActivations& s) const {
  const kernels::Kernels& k = s.compute.kernels();
  const std::size_t hidden = s.hidden;
  const std::size_t width = config_.hidden_size_per_layer_input;
  linear(s.compute, s.batch, {{w.per_layer_input_gate, s.gated_input.data()}}, s.normed.data());
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    k.gelu_mul(s.gated_input.data() + t * width, s.per_layer_input(config_.shape.layers[index].file_index, t), width);
  });
  linear(s.compute, s.batch, {{w.per_layer_projection, s.projected.data()}}, s.gated_input.data());
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    float* out = s.projected.data() + t * hidden;
    k.rms_norm(out, w.post_per_layer_input_norm.data(), config_.rms_norm_eps, out, hidden);
    for (std::size_t i = 1; i < config_.altup_num_inputs; ++i) k.add(out, s.stream(i, t), hidden);
  });
}

// normed = norm(mean of stream 0 and the unembedded streams 1.., each brought to stream 0's magnitude).
void Gemma3n::altup_collapse(Gemma3nActivations& s) const {
  const kernels::Kernels& k = s.compute.kernels();
  const std::size_t n = config_.altup_num_inputs;
  const std::size_t hidden = s.hidden;
  if (s.tokens() == 0) return;
  for (std::size_t i = 1; i < n; ++i) {
    linear(s.compute, s.batch, {{weights_->altup_unembed_projections[i - 1], s.prediction(i, 0)}}, s.stream(i, 0));
  }
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    float* sum = s.normed.data() + t * hidden;
    std::copy_n(s.stream(0, t), hidden, sum);
    for (std::size_t i = 1; i < n; ++i) {
      match_magnitude(s.stream(0, t), s.prediction(i, t), s);
      k.add(s.prediction(i, t), sum, hidden);
    }
    k.scale(1.0F / static_cast<float>(n), sum, hidden);
    k.rms_norm(sum, weights_->norm.data(), config_.rms_norm_eps, sum, hidden);
  });
}

// out [T][vocab] = cap * tanh(head(normed) / cap).
void Gemma3n::logits(Gemma3nActivations& s, float* out) const {
  if (s.tokens() == 0) return;
  linear(s.compute, s.batch, {{weights_->lm_head, out}}, s.normed.data());
  s.compute.each_token(s.tokens(), [&](std::size_t t) {
    s.compute.kernels().soft_cap(out + t * config_.shape.vocab_size, config_.final_logit_softcapping,
                                 config_.shape.vocab_size);
  });
}

// modalities [altup] = tanh(modality_router . norm(x) / hidden).
void Gemma3n::route(const Gemma3nLayerWeights& w, const float* x, float* modalities, float* scratch,
                    const Gemma3nActivations& s) const {
  const kernels::Kernels& k = s.compute.kernels();
  const std::size_t hidden = s.hidden;
  k.rms_norm(x, w.router_norm.data(), config_.rms_norm_eps, scratch, hidden);
  k.scale(1.0F / static_cast<float>(hidden), scratch, hidden);
  k.weights[static_cast<std::size_t>(DType::f32)].matmul({.weights = w.modality_router.data(),
                                                          .activations = scratch,
                                                          .out = modalities,
                                                          .row_bytes = hidden * sizeof(float),
                                                          .rows = config_.altup_num_inputs,
                                                          .cols = hidden,
                                                          .tokens = 1,
                                                          .out_stride = config_.altup_num_inputs});
  for (std::size_t i = 0; i < config_.altup_num_inputs; ++i) modalities[i] = std::tanh(modalities[i]);
}

// x *= rms(target) / rms(x), the latter's mean square clamped at 1e-5 before the square root.
void Gemma3n::match_magnitude(const float* target, float* x, const Gemma3nActivations& s) const {
  const kernels::Kernels& k = s.compute.kernels();
  const float wanted = std::sqrt(k.mean_square(target, s.hidden));
  const float actual = std::sqrt(std::max(k.mean_square(x, s.hidden), 1e-5F));
  k.scale(wanted / actual, x, s.hidden);
}

}  // namespace gemlet
