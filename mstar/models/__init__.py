"""Plain ``nn.Module`` models: loading a backbone, the step scorer, and the embedded tiny model."""
