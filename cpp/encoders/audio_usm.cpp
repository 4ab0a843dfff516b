#include "encoders/audio_usm.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "encoders/cancel.hpp"
#include "gemlet/error.hpp"

namespace gemlet {
namespace {

constexpr std::size_t reduction = 4;  // of the conformer's frames one is a token
constexpr std::size_t mel_frames_at_once = 256;

constexpr std::size_t published_filled_tokens = 188;  // of 30 seconds
constexpr std::size_t max_filled_tokens = 1 << 14;
constexpr std::size_t end_mark = 0;  // of the hard tokens; the last one is for padding

constexpr float loudest = 16;  // resampling overshoots; a sound of whole numbers of 16 bits is another

}  // namespace

bool AudioUsm::is_in(const GgufFile& file) { return has_tensors(file, {"a.conv1d.", "a.pre_encode."}); }

std::size_t AudioUsm::read_filled_tokens(const Reader& read) {
  return read.size("filled_soft_tokens", 0, max_filled_tokens, published_filled_tokens);
}

AudioUsm::AudioUsm(const GgufFile& file, Compute& compute)
    : weights_(read_audio_weights(Reader(file, "clip.audio"))),
      soft_tokens_(Reader(file, "clip.audio"), "mm.a.", weights_.shape.width),
      log_mel_(weights_.shape.mel_bins),
      filled_tokens_(read_filled_tokens(Reader(file, "clip.audio"))) {
  for (const AudioBlockWeights& block : weights_.blocks) {
    constants_.push_back(AudioConformer::constants(weights_.shape, block, compute));
  }
}

void AudioUsm::close(std::vector<float>& rows, Compute& compute) const {
  if (rows.size() < filled_tokens_ * hidden_size()) {
    const std::size_t sound = rows.size();
    soft_tokens_.append_hard(soft_tokens_.hard_tokens() - 1, compute, rows);
    const std::vector<float> padding(rows.begin() + static_cast<std::ptrdiff_t>(sound), rows.end());
    while (rows.size() < filled_tokens_ * hidden_size()) rows.insert(rows.end(), padding.begin(), padding.end());
  }
  soft_tokens_.append_hard(end_mark, compute, rows);
}

AudioUsm::Sound::Sound(const AudioUsm& encoder, Compute& compute)
    : encoder_(encoder), compute_(compute), subsample_(encoder.weights_, compute) {
  for (std::size_t i = 0; i < encoder.constants_.size(); ++i) {
    blocks_.emplace_back(encoder.weights_.shape, encoder.weights_.blocks[i], encoder.constants_[i]);
  }
}

void AudioUsm::Sound::check(std::span<const float> samples) const {
  if (ended_) throw Error(Error::Kind::argument, "the sound is finished: it takes no more samples");
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (std::fabs(samples[i]) <= loudest) continue;  // false for what is no number
    throw Error(Error::Kind::argument, "sample " + std::to_string(received_ + i) + " is " + std::to_string(samples[i]) +
                                           ", expected a number in [-1, 1]");
  }
}

void AudioUsm::Sound::feed(std::span<const float> samples, const Cancel* cancel) {
  check(samples);
  samples_.insert(samples_.end(), samples.begin(), samples.end());
  received_ += samples.size();
  encode(false, cancel);
}

void AudioUsm::Sound::finish(const Cancel* cancel) {
  if (received_ == 0) throw Error(Error::Kind::argument, "the sound has no samples: expected at least one");
  if (!ended_) {
    samples_.resize(samples_.size() + LogMel::padded_samples(received_) - received_);
    ended_ = true;
  }
  if (!finished_) encode(true, cancel);
  finished_ = true;
}

void AudioUsm::Sound::encode(bool last, const Cancel* cancel) {
  const std::size_t bins = encoder_.log_mel_.bins();
  std::vector<float> mel;
  std::size_t used = 0;
  // At the end alone, whatever ends it: dropping after each piece would move all that follows each time.
  struct DropUsed {
    std::vector<float>& samples;
    const std::size_t& used;
    ~DropUsed() { samples.erase(samples.begin(), samples.begin() + static_cast<std::ptrdiff_t>(used)); }
  } const drop_used{samples_, used};
  for (bool more = true; more;) {
    check_cancelled(cancel, "the sound");
    const std::size_t available = LogMel::frames_in(samples_.size() - used);
    const std::size_t frames = std::min(available, mel_frames_at_once);
    more = frames < available;
    if (frames == 0 && !last) break;
    mel.resize(frames * bins);
    compute_.each_token(frames, [&](std::size_t i) {
      encoder_.log_mel_.frame(samples_.data() + used + i * LogMel::hop_samples, mel.data() + i * bins);
    });
    encode_frames(mel.data(), frames, last && !more);
    used += frames * LogMel::hop_samples;
  }
}

void AudioUsm::Sound::encode_frames(const float* mel, std::size_t mel_frames, bool last) {
  std::vector<float> x;
  subsample_.feed(mel, mel_frames, last, x);
  const std::size_t frames = x.size() / encoder_.weights_.shape.width;
  if (frames == 0) return;
  const std::size_t first = (reduction - frames_ % reduction) % reduction;  // in this piece, of those that are tokens
  std::size_t tokens = 0;
  for (AudioConformer& block : blocks_) {
    const bool is_last = &block == &blocks_.back();
    tokens = block.run(x.data(), frames, is_last ? first : 0, is_last ? reduction : 1, scratch_, compute_);
  }
  frames_ += frames;
  if (tokens == 0) return;
  const std::size_t before = rows_.size();
  rows_.resize(before + tokens * encoder_.hidden_size());
  encoder_.soft_tokens_.project(x.data(), tokens, rows_.data() + before, compute_);
}

}  // namespace gemlet
