#include "model/batch.hpp"

#include <algorithm>

namespace gemlet {

void Batch::begin(std::span<const Segment> segments, Compute& compute) {
  rows_.clear();
  for (const Segment& segment : segments) {
    auto media = segment.media.begin();
    for (std::size_t i = 0; i < segment.tokens.size(); ++i) {
      const bool last = i + 1 == segment.tokens.size();
      Row row{.token = segment.tokens[i],
              .embedding = nullptr,
              .position = segment.cache->length() + i,
              .block_end = 0,
              .cache = static_cast<KvCache*>(segment.cache),
              .adapter = segment.adapter,
              .wanted = segment.want == Segment::Want::all || (last && segment.want == Segment::Want::last),
              .origin = rows_.size()};
      while (media != segment.media.end() && media->end() <= row.position) ++media;
      if (media != segment.media.end() && media->begin <= row.position) {
        row.embedding = media->rows->data() + (row.position - media->begin) * shape_.hidden_size;
        row.block_end = media->end();
      }
      rows_.push_back(row);
    }
    segment.cache->prepare(segment.tokens.size());
  }
  angles_.fill(compute, rows_.size(), [&](std::size_t t) { return rows_[t].position; });
}

std::span<const std::size_t> Batch::keep_wanted() {
  kept_.clear();
  for (std::size_t t = 0; t < rows_.size(); ++t) {
    if (!rows_[t].wanted) continue;
    rows_[kept_.size()] = rows_[t];
    kept_.push_back(t);
  }
  rows_.resize(kept_.size());
  return kept_;
}

bool Batch::has_adapters() const {
  return std::any_of(rows_.begin(), rows_.end(), [](const Row& row) { return row.adapter != nullptr; });
}

bool Batch::has_unwanted() const {
  return std::any_of(rows_.begin(), rows_.end(), [](const Row& row) { return !row.wanted; });
}

Query Batch::query(const LayerShape& layer, std::size_t t) const {
  const Row& row = rows_[t];
  const std::size_t end = row.position + 1;
  const std::size_t seen = layer.window == 0 ? end : std::min(end, layer.window);
  return {row.cache, end - seen, layer.media_attend_both_ways ? std::max(end, row.block_end) : end};
}

}  // namespace gemlet
