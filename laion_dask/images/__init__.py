"""Turn the bytes of a body into a checked picture: container repair, decoding in limited processes, colors, hashes.

- blur: Blur boxes of a picture, such as faces, beyond recognition.
- colors: Convert decoded pictures of any pixel format to 8 bits on white, then to sRGB.
- decoder_process: The decoder's program: reads bodies from standard input, writes prepared pictures to standard
  output.
- decoders: Prepare pictures in separate processes, so that a crash or a hang of a decoder costs only one row.
- hashes: Digests of a body's bytes, and the perceptual hash (PDQ) of a decoded picture.
- jpeg_segments: Repair JPEGs that browsers show: bad segments that do not affect the pixels, and a missing end
  mark.
- metadata: Find stored pictures that still contain metadata: EXIF, GPS, XMP, IPTC, comments, profiles.
- pdq_index: Find all pairs of perceptual hashes within a Hamming distance without comparing all with all.
- png_chunks: Open a PNG as browsers do: pass only the chunks that determine the picture to the decoder, ignore damage
  in others.
- prepare: Check, turn upright, resize and encode a picture without its metadata, or give the reason why not.
- received: The work of a decoder: read the rights metadata of a received body, and prepare its picture.
- tar_folders: Read a folder of tars that others made: img2dataset's and webdataset's layouts.
- tar_samples: Find which picture and texts of a foreign tar belong to one sample, and which members cannot be used.
- webp_chunks: Repair the container of a still WebP: keep its one or two picture chunks, ignore wrong chunks around
  them.
"""
